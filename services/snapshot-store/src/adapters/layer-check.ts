// A VMM could write anything into its disk file. As a layer it must need no file but the one it was made over.
import { WrennError } from '@wrenn/kit/errors';

import type { DiskBackend } from '../domain/disk-backend.ts';
import { type Layer, layerName } from '../domain/snapshot.ts';
import type { StagedRecord } from '../domain/snapshot-manifest.ts';

export async function requireLayer(
  backend: DiskBackend,
  { id, path }: Layer,
  { parentId, generation, diskBytes }: StagedRecord,
  basePath: string,
): Promise<void> {
  const facts = await backend.inspect(path);
  const [backingName, backingFormat] = parentId === null ? [basePath, 'raw'] : [layerName(parentId), 'qcow2'];
  const isAsMade =
    facts.isPlain &&
    facts.backingName === backingName &&
    facts.backingFormat === backingFormat &&
    facts.virtualBytes === diskBytes;
  if (isAsMade) return;
  throw new WrennError('SNAPSHOT_CORRUPT', `the VMM made ${layerName(id)} stand on something else than its parent`, {
    meta: { snapshot: id, file: layerName(id), generation: String(generation) },
  });
}
