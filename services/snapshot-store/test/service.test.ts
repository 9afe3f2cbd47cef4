import { expect, test } from 'vitest';
import { newSandboxId } from '@wrenn/kit/ids';
import { inMs } from '@wrenn/kit/deadlines';
import { startStore } from './store-fixture.ts';

test('a disk over an imported image is a sparse qcow2 file of the size asked for', async () => {
  await using fixture = await startStore();
  const { image } = await fixture.client.importImage(
    { name: 'minimal', sourcePath: await fixture.source('a', 8) },
    inMs(10_000),
  );
  expect(image).toMatchObject({ name: 'minimal', isCurrent: true, virtualBytes: 8n << 20n, problem: '' });
  const { disk } = await fixture.client.createDisk(
    { diskId: newSandboxId(), image: 'minimal', virtualBytes: 1n << 30n },
    inMs(10_000),
  );
  expect(disk).toMatchObject({ format: 'qcow2', imageDigest: image?.digest, virtualBytes: 1n << 30n, problem: '' });
  expect(disk?.realBytes).toBeLessThan(1n << 20n);
});
