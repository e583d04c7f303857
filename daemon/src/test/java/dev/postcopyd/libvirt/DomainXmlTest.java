package dev.postcopyd.libvirt;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class DomainXmlTest {
  private static final String DOMAIN =
      """
      <domain type='kvm'>
        <name>a &amp; b</name>
        <uuid>bdd997da-86ab-46f8-80f6-a3c95c2f283e</uuid>
        <cpu mode='host-model'><topology sockets='1'/></cpu>
        <devices/>
      </domain>
      """;
  private static final Path MONITOR = Path.of("/var/lib/libvirt/qemu/postcopyd-x.mon");
  private static final String WAITS =
      "<qemu:commandline><qemu:arg value=\"-incoming\"/><qemu:arg value=\"defer\"/>"
          + "<qemu:arg value=\"-qmp\"/>"
          + "<qemu:arg value=\"unix:/var/lib/libvirt/qemu/postcopyd-x.mon,server=on,wait=off\"/>"
          + "</qemu:commandline></domain>";

  @Test
  void itsNameAndUuidAreRead() throws IOException {
    DomainXml domain = DomainXml.parse(DOMAIN);
    assertThat(domain.name()).isEqualTo("a & b");
    assertThat(domain.uuid()).hasToString("bdd997da-86ab-46f8-80f6-a3c95c2f283e");
  }

  @Test
  void qemuIsMadeToWaitOnceHoweverOftenThatIsAsked() throws IOException {
    DomainXml domain = DomainXml.parse(DOMAIN);
    domain.waitForMigration(Path.of("/old/postcopyd-y.mon"));
    domain.waitForMigration(MONITOR);
    assertThat(domain.toString())
        .startsWith(
            "<domain xmlns:qemu=\"http://libvirt.org/schemas/domain/qemu/1.0\" type=\"kvm\">")
        .endsWith(WAITS);
    DomainXml again = DomainXml.parse(domain.toString());
    again.waitForMigration(MONITOR);
    assertThat(again.toString()).isEqualTo(domain.toString());
  }

  @Test
  void theUsersOwnArgumentsStay() throws IOException {
    String own =
        "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'>"
            + "<q:arg value='-qmp'/><q:arg value='unix:/run/mine,server=on'/>"
            + "<q:env name='A' value='b'/></q:commandline></domain>";
    DomainXml domain = DomainXml.parse(DOMAIN.replace("</domain>", own));
    domain.waitForMigration(MONITOR);
    assertThat(domain.toString())
        .contains("unix:/run/mine,server=on")
        .contains("name=\"A\"")
        .contains("postcopyd-x.mon,server=on,wait=off");
  }

  @Test
  void commasOfThePathAreDoubled() throws IOException {
    DomainXml domain = DomainXml.parse(DOMAIN);
    domain.waitForMigration(Path.of("/a,b/postcopyd-x.mon"));
    assertThat(domain.toString()).contains("unix:/a,,b/postcopyd-x.mon,server=on");
  }

  @Test
  void theProcessorIsTheOneThatTheGuestHad() throws IOException {
    DomainXml domain = DomainXml.parse(DOMAIN);
    domain.useProcessorOf("<cookie><cpu mode='custom'><model>Skylake</model></cpu></cookie>");
    assertThat(domain.toString())
        .contains("<cpu mode=\"custom\"><model>Skylake</model></cpu>")
        .doesNotContain("host-model");
    domain.useProcessorOf("<cookie><allowReboot value='yes'/></cookie>");
    assertThat(domain.toString()).contains("Skylake");
  }

  @Test
  void whatIsNoDomainIsRefused() {
    assertThatThrownBy(() -> DomainXml.parse("<network><name>n</name></network>"))
        .hasMessage("not a domain's XML: it begins with <network>");
    assertThatThrownBy(() -> DomainXml.parse("<domain/>"))
        .hasMessage("the domain's XML has no <name>");
    assertThatThrownBy(() -> DomainXml.parse("<domain>"))
        .hasMessageContaining("the domain's XML is damaged at line 1");
    assertThatThrownBy(() ->
            DomainXml.parse(DOMAIN.replaceFirst("<uuid>.*</uuid>", "<uuid>1;2</uuid>")).uuid())
        .hasMessageContaining("<uuid> '1;2'");
  }

  @Test
  void nothingElseIsReadForIt() {
    String entity = "<!DOCTYPE domain [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>";
    assertThatThrownBy(() -> DomainXml.parse(entity + "<domain><name>&x;</name></domain>"))
        .hasMessageContaining("DOCTYPE is disallowed");
  }

  @Test
  void qemuListensWhereLibvirtLetsIt() {
    Map<String, String> home = Map.of("HOME", "/home/u");
    assertThat(LibvirtDirectories.ofQemu(Optional.empty(), home))
        .isEqualTo(Path.of("/var/lib/libvirt/qemu"));
    assertThat(LibvirtDirectories.ofQemu(Optional.of("qemu:///session"), home))
        .isEqualTo(Path.of("/home/u/.config/libvirt/qemu/lib"));
    assertThatThrownBy(
            () -> LibvirtDirectories.ofQemu(Optional.of("qemu+ssh://other/system"), home))
        .hasMessageContaining("have to be on this host");
  }
}
