// Who needs which image version. References are never counted anywhere: they are read from the disks and snapshots
// themselves, so no crash can make them wrong. One that cannot say what it needs is taken to need all.
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
  readonly parentId: string | null; // The snapshot it stands on.
  readonly layers: readonly string[]; // Builds of the frozen layers below it, newest first.
  readonly problem: string; // Why it cannot be used; empty when it can.
}

// What stands on an image version.
export interface ImageUser {
  readonly kind: 'disk' | 'snapshot';
  readonly id: string;
  readonly image: string; // Empty where unknown.
  readonly imageDigest: string;
}

export function needs(user: Omit<ImageUser, 'kind' | 'id'>, image: string, digest: string): boolean {
  return user.image === '' || (user.image === image && user.imageDigest === digest);
}

// What stands in the way of deleting an image with all its versions.
export function userOfImage(users: readonly ImageUser[], image: string): ImageUser | undefined {
  return users.find((user) => user.image === '' || user.image === image);
}

// Versions that may go: superseded, and nothing stands on them. Without a current version none is
// superseded: the next import decides.
export function supersededVersions(
  versions: readonly ImageVersion[],
  users: readonly ImageUser[],
): readonly ImageVersion[] {
  if (!versions.some((version) => version.isCurrent)) return [];
  return versions.filter(
    (version) => !version.isCurrent && !users.some((user) => needs(user, version.name, version.digest)),
  );
}
