// Who needs which image version. References are never counted anywhere: they are read from the disks
// themselves, so no crash can make them wrong. A disk that cannot say what it needs is taken to need all.
import type { SourceFingerprint } from './source.ts';

export interface ImageVersion {
  readonly name: string;
  readonly digest: string; // `sha256:` and 64 hex digits.
  readonly path: string;
  readonly virtualBytes: number;
  readonly realBytes: number;
  readonly isCurrent: boolean;
  readonly source: SourceFingerprint | null; // What it was copied from, where that can be told again.
  readonly problem: string; // Why it cannot be used; empty when it can.
}

export interface StoredDisk {
  readonly id: string;
  readonly image: string; // Empty where unknown.
  readonly imageDigest: string;
  readonly path: string;
  readonly virtualBytes: number;
  readonly realBytes: number;
  readonly problem: string; // Why it cannot be used; empty when it can.
}

export function needs(disk: StoredDisk, image: string, digest: string): boolean {
  return disk.image === '' || (disk.image === image && disk.imageDigest === digest);
}

// A disk that stands in the way of deleting an image with all its versions.
export function diskNeedingImage(disks: readonly StoredDisk[], image: string): StoredDisk | undefined {
  return disks.find((disk) => disk.image === '' || disk.image === image);
}

// Versions that may go: superseded, and no disk stands on them. Without a current version none is
// superseded: the next import decides.
export function supersededVersions(
  versions: readonly ImageVersion[],
  disks: readonly StoredDisk[],
): readonly ImageVersion[] {
  if (!versions.some((version) => version.isCurrent)) return [];
  return versions.filter(
    (version) => !version.isCurrent && !disks.some((disk) => needs(disk, version.name, version.digest)),
  );
}
