// A template: a root filesystem as an ext4 image, and what the CLI registers about it.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { writeDurably } from '@wrenn/kit/durable-file';
import { runProgram } from '@wrenn/kit/run-program';
import type { Step } from '../cache.ts';
import { makeExt4 } from '../ext4.ts';
import type { Recipe } from '../recipe.ts';
import { busybox, makeBusyboxRoot } from './busybox-root.ts';
import { makeDebianRoot } from './debian-root.ts';

const MiB = 1024 * 1024;

export async function templateStep(root: string, recipe: Recipe): Promise<Step> {
  const isBusybox = recipe.base === 'busybox';
  return {
    name: `template:${recipe.name}`,
    inputs: {
      root,
      paths: [
        `images/templates/${recipe.name}.json`,
        'images/steps/template.ts',
        'images/ext4.ts',
        `images/steps/${recipe.base}-root.ts`,
      ],
      values: isBusybox
        ? [
            createHash('sha256')
              .update(await readFile(busybox))
              .digest('hex'),
          ]
        : [],
    },
    build: async (dir, say) => {
      const tree = join(dir, 'tree');
      await mkdir(tree);
      await (isBusybox ? makeBusyboxRoot(tree) : makeDebianRoot(tree, recipe.packages, say));
      const virtualBytes = imageBytes(await contentBytes(tree));
      if (virtualBytes > recipe.diskBytes)
        throw new Error(`its content needs ${virtualBytes} bytes, diskBytes is less`);
      const image = join(dir, 'rootfs.ext4');
      await makeExt4(tree, image, { virtualBytes, journalMiB: isBusybox ? 4 : 16 });
      await rm(tree, { recursive: true });
      await writeDurably(join(dir, 'manifest.json'), manifest(recipe, await digestOf(image), virtualBytes));
    },
  };
}

// Room for the filesystem's own tables and some headroom, in whole 64 MiB. The file is sparse, so this costs nothing.
export function imageBytes(contentBytes: number): number {
  return Math.ceil((contentBytes * 1.2 + 32 * MiB) / (64 * MiB)) * 64 * MiB;
}

async function contentBytes(tree: string): Promise<number> {
  return Number((await runProgram('du', ['-s', '--block-size=1', tree])).split('\t')[0]);
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: MiB }), hash);
  return hash.digest('hex');
}

function manifest(recipe: Recipe, digest: string, virtualBytes: number): string {
  const fields = {
    name: recipe.name,
    description: recipe.description,
    vcpu_count: recipe.vcpuCount,
    memory_bytes: recipe.memoryBytes,
    disk_bytes: recipe.diskBytes,
    default_user: recipe.defaultUser,
    digest: `sha256:${digest}`,
    virtual_bytes: virtualBytes,
  };
  return `${JSON.stringify(fields, null, 2)}\n`;
}
