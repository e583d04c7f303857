package dev.postcopyd.uffd;

import dev.postcopyd.uffd.abi.UapiConstants;
import java.util.EnumSet;
import java.util.Set;

/** What a userfaultfd can be asked for at its creation: {@code UFFD_FEATURE_*}. */
public enum UffdFeature {
  /** Write-protect faults on anonymous memory. */
  PAGEFAULT_FLAG_WP(UapiConstants.UFFD_FEATURE_PAGEFAULT_FLAG_WP),
  /** An event with a new userfaultfd when the process forks; needs CAP_SYS_PTRACE. */
  EVENT_FORK(UapiConstants.UFFD_FEATURE_EVENT_FORK),
  /** An event when registered memory is moved with mremap. */
  EVENT_REMAP(UapiConstants.UFFD_FEATURE_EVENT_REMAP),
  /** An event when registered memory is given back with madvise. */
  EVENT_REMOVE(UapiConstants.UFFD_FEATURE_EVENT_REMOVE),
  /** Missing faults on hugetlb memory. */
  MISSING_HUGETLBFS(UapiConstants.UFFD_FEATURE_MISSING_HUGETLBFS),
  /** Missing faults on shared memory. */
  MISSING_SHMEM(UapiConstants.UFFD_FEATURE_MISSING_SHMEM),
  /** An event when registered memory is unmapped. */
  EVENT_UNMAP(UapiConstants.UFFD_FEATURE_EVENT_UNMAP),
  /** SIGBUS to the faulting thread in place of an event. */
  SIGBUS(UapiConstants.UFFD_FEATURE_SIGBUS),
  /** Faults say which thread they came from. */
  THREAD_ID(UapiConstants.UFFD_FEATURE_THREAD_ID),
  /** Minor faults on hugetlb memory. */
  MINOR_HUGETLBFS(UapiConstants.UFFD_FEATURE_MINOR_HUGETLBFS),
  /** Minor faults on shared memory. */
  MINOR_SHMEM(UapiConstants.UFFD_FEATURE_MINOR_SHMEM),
  /** Faults give the address to the byte, not rounded to the page. */
  EXACT_ADDRESS(UapiConstants.UFFD_FEATURE_EXACT_ADDRESS),
  /** Write-protect faults on shared and hugetlb memory. */
  WP_HUGETLBFS_SHMEM(UapiConstants.UFFD_FEATURE_WP_HUGETLBFS_SHMEM),
  /** Write protection also of pages that are not there yet. */
  WP_UNPOPULATED(UapiConstants.UFFD_FEATURE_WP_UNPOPULATED),
  /** {@code UFFDIO_POISON}. */
  POISON(UapiConstants.UFFD_FEATURE_POISON),
  /** Write-protect faults are resolved by the kernel and only noted for PAGEMAP_SCAN. */
  WP_ASYNC(UapiConstants.UFFD_FEATURE_WP_ASYNC),
  /** {@code UFFDIO_MOVE}. */
  MOVE(UapiConstants.UFFD_FEATURE_MOVE);

  private final long bit;

  UffdFeature(long bit) {
    this.bit = bit;
  }

  /** The bit in {@code uffdio_api.features}. */
  public long bit() {
    return bit;
  }

  static long bits(Set<UffdFeature> features) {
    long bits = 0;
    for (UffdFeature feature : features) {
      bits |= feature.bit;
    }
    return bits;
  }

  /** The features among these bits; bits that this enum does not know are left out. */
  static Set<UffdFeature> ofBits(long bits) {
    EnumSet<UffdFeature> features = EnumSet.noneOf(UffdFeature.class);
    for (UffdFeature feature : values()) {
      if ((bits & feature.bit) != 0) {
        features.add(feature);
      }
    }
    return features;
  }
}
