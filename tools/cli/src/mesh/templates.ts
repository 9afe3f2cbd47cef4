// Brings the templates that `make images` built into a mesh: their images into the store, their
// descriptions into the scheduler. Both are idempotent, so it runs at every start.
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { inMs } from '@wrenn/kit/deadlines';
import { Lanes } from '@wrenn/kit/lanes';
import { SchedulerService } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';
import { SnapshotStoreService } from '@wrenn/proto/wrenn/snapshotstore/v1/snapshotstore';
import { z } from 'zod';

import { type MeshOptions, addressesOf } from './options.ts';

const manifestSchema = z.object({
  name: z.string(),
  description: z.string(),
  vcpu_count: z.number().int(),
  memory_bytes: z.number().int(),
  disk_bytes: z.number().int(),
  default_user: z.string(),
  digest: z.string(), // Of rootfs.ext4, as the store names versions.
});

export async function registerTemplates(options: MeshOptions, tell: (line: string) => void): Promise<string[]> {
  const at = addressesOf(options);
  const storeLanes = new Lanes(at.snapshotStore, 'snapshot-store');
  const schedulerLanes = new Lanes(at.scheduler, 'scheduler');
  try {
    const store = storeLanes.client('control', SnapshotStoreService);
    const scheduler = schedulerLanes.client('control', SchedulerService);
    const { images } = await store.listImages({}, inMs(30_000));
    const names = await templateNames(options);
    for (const name of names) {
      const dir = join(options.imagesDir, 'templates', name);
      const manifest = manifestSchema.parse(JSON.parse(await readFile(join(dir, 'manifest.json'), 'utf8')));
      const isThere = images.some(
        (image) => image.name === manifest.name && image.isCurrent && image.digest === manifest.digest,
      );
      if (!isThere) {
        tell(`importing image ${manifest.name}`);
        await store.importImage({ name: manifest.name, sourcePath: join(dir, 'rootfs.ext4') }, inMs(300_000));
      }
      await scheduler.putTemplate({ template: templateOf(manifest) }, inMs(30_000));
    }
    return names;
  } finally {
    storeLanes.close();
    schedulerLanes.close();
  }
}

function templateOf(manifest: z.infer<typeof manifestSchema>) {
  return {
    name: manifest.name,
    image: manifest.name,
    description: manifest.description,
    vcpuCount: manifest.vcpu_count,
    memoryBytes: BigInt(manifest.memory_bytes),
    diskBytes: BigInt(manifest.disk_bytes),
    defaultUser: manifest.default_user,
  };
}

async function templateNames({ imagesDir, templates }: MeshOptions): Promise<string[]> {
  const built = (await readdir(join(imagesDir, 'templates'))).sort();
  return templates ? built.filter((name) => templates.includes(name)) : built;
}
