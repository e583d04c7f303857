package dev.postcopyd.monitor;

import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.Command;
import java.util.Optional;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import tools.jackson.databind.node.ObjectNode;

/**
 * While the guest of a QEMU depends on this daemon, gives QEMU a descriptor of the daemon's own end
 * of the session ({@code getfd}): should the daemon be killed, the session lives, and a fresh
 * daemon takes it over from QEMU's descriptors if it can't have one of its own ({@link
 * MonitorLifeline}).
 *
 * <p>Not where a daemon like this one may not look into QEMU: then it would only keep others out.
 * Thread-safe; nothing of it waits.
 */
public final class LifelineKeeper implements QemuMonitor.Listener {
  private static final Logger LOG = LoggerFactory.getLogger(LifelineKeeper.class);

  private final QemuMonitor monitor;
  private volatile boolean wanted;
  private volatile @Nullable MonitorLifeline taken;

  LifelineKeeper(QemuMonitor monitor) {
    this.monitor = monitor;
  }

  /** From now on QEMU holds every session with it. */
  public void keep() {
    if (!wanted) {
      wanted = true;
      monitor.session().ifPresent(this::give);
    }
  }

  /** The guest needs nobody any more. */
  public void letGo() {
    if (!wanted) {
      return;
    }
    wanted = false;
    var _ = monitor.execute(command("closefd")).exceptionally(cause -> QmpJson.object());
  }

  private static Command command(String name) {
    ObjectNode arguments = QmpJson.object().put("fdname", MonitorLifeline.NAME);
    return new Command(null, name, arguments, false);
  }

  private void give(QemuMonitor.Session session) {
    if (!session.oob() || !MonitorLifeline.isPossible(session.peer().pid())) {
      LOG.debug("no lifeline monitor={} pid={}", monitor.path(), session.peer().pid());
      return;
    }
    int own = monitor.duplicate();
    if (own >= 0) {
      var _ =
          monitor
              .execute(command("getfd"), own)
              .exceptionally(cause -> {
                LOG.debug("no lifeline monitor={}", monitor.path(), cause);
                return QmpJson.object();
              });
    }
  }

  @Override
  public void connected(QemuMonitor.Session session) {
    if (wanted) {
      give(session);
    }
  }

  @Override
  public void ended(QemuMonitor.Session last) {
    wanted = false;
  }

  /** Takes over what an earlier daemon has left with the QEMU that does not greet us. */
  public Optional<MonitorLifeline> find() {
    return monitor.silentPeer().flatMap(pid -> MonitorLifeline.find(monitor.path(), pid));
  }

  /** What QEMU can be told by, as long as there is no session with it. */
  public Optional<MonitorLifeline> line() {
    return monitor.session().isPresent() ? Optional.empty() : Optional.ofNullable(taken);
  }

  /** Makes {@link #line} return it; null when it is at its end. */
  public void use(@Nullable MonitorLifeline line) {
    taken = line;
  }
}
