package dev.postcopyd;

import static com.tngtech.archunit.base.DescribedPredicate.alwaysTrue;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideInAPackage;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideInAnyPackage;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.classes;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.noClasses;
import static com.tngtech.archunit.library.dependencies.SlicesRuleDefinition.slices;
import static org.assertj.core.api.Assertions.assertThat;

import com.tngtech.archunit.core.domain.JavaClasses;
import com.tngtech.archunit.core.importer.ClassFileImporter;
import com.tngtech.archunit.core.importer.ImportOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

/** The dependency table of ARCHITECTURE.md: who may use whom. Everything else is forbidden. */
class ArchitectureTest {
  private static final String ROOT = "dev.postcopyd.";

  private static final JavaClasses CODE =
      new ClassFileImporter()
          .withImportOption(new ImportOption.DoNotIncludeTests())
          .importPackages("dev.postcopyd");

  /** A package → the packages of ours that it may use; sub-packages count as their own rows. */
  private static final String TABLE =
      """
      posix.abi           ->
      posix               -> posix.abi
      uffd.abi            -> posix.abi
      uffd                -> posix, posix.abi, uffd.abi
      qmp.message         ->
      qmp.codec           -> qmp.message
      qmp.qapi            -> qmp.message, qmp.codec
      qmp.schema          -> qmp.message, qmp.codec, qmp.qapi
      qmp.client          -> qmp.message, qmp.codec, qmp.schema
      tls                 -> posix
      page                ->
      metrics             ->
      stream              -> page
      monitor             -> posix, posix.abi, qmp.message, qmp.codec
      snapshot            -> page, stream, posix
      workingset          -> page, snapshot, stream, posix
      guest               -> page, stream, posix, tls, uffd, monitor, qmp.message, qmp.codec
      fds                 -> posix, posix.abi
      postcopy            -> page, metrics
      postcopy.uffd       -> postcopy, page, posix, uffd, uffd.abi
      postcopy.memory     -> postcopy, page, posix
      postcopy.mappedram  -> postcopy, page, snapshot, posix
      postcopy.migration  -> postcopy, page, stream, posix
      postcopy.network    -> postcopy, page, source, stream, posix
      handover            -> page, posix, uffd, postcopy.uffd, qmp.codec
      loader              -> postcopy, page, metrics
      incoming            -> tls, source, sink, outgoing.background, handover, loader, postcopy, postcopy.uffd, postcopy.memory, postcopy.mappedram, postcopy.migration, postcopy.network, workingset, snapshot, stream, guest, fds, page, metrics, posix, uffd
      outgoing.background -> outgoing, postcopy, postcopy.uffd, snapshot, guest, page, metrics, posix, uffd, uffd.abi
      outgoing            -> loader, postcopy, snapshot, guest, fds, page, metrics, posix
      source              -> page, stream, posix, tls
      sink                -> page, stream, posix, snapshot, source, outgoing
      control             -> tls, source, sink, loader, incoming, outgoing, outgoing.background, postcopy, guest, monitor, workingset, fds, metrics, snapshot, posix, qmp.message, qmp.codec, qmp.qapi, qmp.schema, page
      libvirt             -> posix
      view                -> incoming, loader, postcopy, metrics, qmp.codec
      app                 -> *
      cli                 -> app, control, libvirt, guest, sink, incoming, outgoing.background, postcopy, workingset, snapshot, posix, stream, page, qmp.client, qmp.codec, qmp.message, qmp.schema, metrics
      """;

  private static List<String[]> rows() {
    List<String[]> rows = new ArrayList<>();
    for (String line : TABLE.lines().toList()) {
      String[] sides = line.split("->", -1);
      rows.add(new String[] {sides[0].strip(), sides[1].strip()});
    }
    return rows;
  }

  @Test
  void everyPackageUsesOnlyWhatTheTableAllows() {
    for (String[] row : rows()) {
      if (row[1].equals("*")) {
        continue;
      }
      Set<String> allowed =
          Arrays.stream(row[1].split(","))
              .map(String::strip)
              .filter(name -> !name.isEmpty())
              .collect(Collectors.toCollection(TreeSet::new));
      allowed.add(row[0]);
      String[] packages = allowed.stream().map(name -> ROOT + name).toArray(String[]::new);
      classes()
          .that()
          .resideInAPackage(ROOT + row[0])
          .should()
          .onlyDependOnClassesThat(
              com.tngtech.archunit.base.DescribedPredicate.not(resideInAPackage("dev.postcopyd.."))
                  .or(resideInAnyPackage(packages)))
          .allowEmptyShould(true)
          .check(CODE);
    }
  }

  @Test
  void everyPackageIsInTheTable() {
    Set<String> known =
        rows().stream().map(row -> ROOT + row[0]).collect(Collectors.toCollection(TreeSet::new));
    Set<String> found =
        CODE.stream()
            .filter(javaClass -> !javaClass.getSimpleName().equals("package-info"))
            .map(javaClass -> javaClass.getPackageName())
            .collect(Collectors.toCollection(TreeSet::new));
    found.removeAll(known);
    assertThat(found).as("packages that the table does not know").isEmpty();
  }

  @Test
  void thereAreNoCycles() {
    slices().matching("dev.postcopyd.(**)").should().beFreeOfCycles().check(CODE);
  }

  @Test
  void nativeCodeIsReachedThroughOneDoor() {
    noClasses()
        .that()
        .resideOutsideOfPackage("dev.postcopyd.posix.abi")
        .should()
        .dependOnClassesThat()
        .haveFullyQualifiedName("java.lang.foreign.Linker")
        .check(CODE);
  }

  @Test
  void theEngineKnowsNoKernelNoFileAndNoSocket() {
    noClasses()
        .that()
        .resideInAnyPackage("dev.postcopyd.postcopy", "dev.postcopyd.loader", "dev.postcopyd.page")
        .should()
        .dependOnClassesThat(
            resideInAnyPackage(
                "java.nio..",
                "java.net..",
                "java.lang.foreign..",
                "io.netty..",
                "dev.postcopyd.posix..",
                "dev.postcopyd.uffd.."))
        .check(CODE);
  }

  @Test
  void namesPromiseSomething() {
    assertThat(
            CODE.stream()
                .map(javaClass -> javaClass.getSimpleName())
                .filter(name -> name.matches(".*(Manager|Util|Utils|Helper|Impl)$")))
        .isEmpty();
    assertThat(CODE.that(alwaysTrue())).isNotEmpty();
  }
}
