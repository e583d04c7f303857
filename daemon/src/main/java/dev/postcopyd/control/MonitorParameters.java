package dev.postcopyd.control;

import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.MigrateSetParameters;
import dev.postcopyd.qmp.schema.QmpCommands;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/** Of QEMU's migration parameters those that the daemon's own loads honour. Thread-safe. */
final class MonitorParameters {
  private static final Logger LOG = LoggerFactory.getLogger(MonitorParameters.class);

  private final MigrationSettings settings;

  MonitorParameters(MigrationSettings settings) {
    this.settings = settings;
  }

  /** They have been set at QEMU, or are as QEMU has them. */
  void adopt(JsonNode parameters) {
    JsonNode bandwidth = parameters.get("max-postcopy-bandwidth");
    if (bandwidth != null) {
      try {
        ObjectNode one = QmpJson.object();
        one.set("max-postcopy-bandwidth", bandwidth);
        MigrateSetParameters change =
            QmpCommands.MIGRATE_SET_PARAMETERS.arguments(new Command(null, "", one, false));
        settings.adoptParameters(change);
      } catch (QmpException e) {
        LOG.warn("max-postcopy-bandwidth not taken over value={}", bandwidth);
      }
    }
  }
}
