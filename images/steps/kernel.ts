// Debian's cloud kernel and the modules that find the disk and the network of a microVM.
import { createHash } from 'node:crypto';
import { copyFile, glob, mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { runProgram } from '@wrenn/kit/run-program';
import type { Say, Step } from '../cache.ts';
import { aptGetDownload } from '../debian-mirror.ts';
import { unpackKernel } from '../vmlinux.ts';

// In the order in which they can be loaded.
const modules = ['virtio_ring', 'virtio', 'virtio_mmio', 'virtio_blk', 'failover', 'net_failover', 'virtio_net'];

interface Pin {
  readonly package: string;
  readonly version: string;
  readonly sha256: string;
}

export function kernelStep(root: string): Step {
  return {
    name: 'kernel',
    inputs: { root, paths: ['images/kernel.json', 'images/steps/kernel.ts', 'images/vmlinux.ts'] },
    build: async (dir, say) => {
      const pin = JSON.parse(await readFile(join(root, 'images/kernel.json'), 'utf8')) as Pin;
      const scratch = join(dir, 'scratch');
      await mkdir(scratch);
      const archive = await download(pin, scratch, say);
      const tree = join(scratch, 'tree');
      await runProgram('dpkg-deb', ['-x', archive, tree], { timeoutMs: 300_000 });
      await extract(tree, dir);
      await unpackKernel(join(dir, 'vmlinuz'), scratch, join(dir, 'vmlinux'));
      const sha256 = createHash('sha256')
        .update(await readFile(archive))
        .digest('hex');
      const manifest = { ...pin, package: basename(archive).split('_')[0], version: await versionOf(archive), sha256 };
      await writeFile(join(dir, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`);
      await rm(scratch, { recursive: true });
    },
  };
}

// Debian's mirrors drop a version some time after its successor is out. Then the successor serves, as apt verifies
// it by the mirror's signature, and we say so rather than leave a new machine without a kernel.
async function download(pin: Pin, scratch: string, say: Say): Promise<string> {
  if (await aptGetDownload(`${pin.package}=${pin.version}`, scratch)) {
    const archive = await onlyArchive(scratch);
    const sha256 = createHash('sha256')
      .update(await readFile(archive))
      .digest('hex');
    if (sha256 !== pin.sha256)
      throw new Error(`${basename(archive)} has sha256 ${sha256}, images/kernel.json ${pin.sha256}`);
    return archive;
  }
  const fields = await runProgram('apt-cache', ['show', '--no-all-versions', 'linux-image-cloud-amd64']);
  const current = /^Depends: (linux-image-\S+)/m.exec(fields)?.[1];
  if (!current || !(await aptGetDownload(current, scratch)))
    throw new Error('apt offers no linux-image-cloud-amd64: is a Debian 12 mirror configured?');
  const archive = await onlyArchive(scratch);
  say(`the mirror no longer has ${pin.package} ${pin.version}: using ${basename(archive)}; update images/kernel.json`);
  return archive;
}

async function onlyArchive(dir: string): Promise<string> {
  const archive = (await readdir(dir)).find((name) => name.endsWith('.deb'));
  if (!archive) throw new Error('apt-get download left no package');
  return join(dir, archive);
}

async function versionOf(archive: string): Promise<string> {
  return (await runProgram('dpkg-deb', ['-f', archive, 'Version'])).trim();
}

async function extract(tree: string, dir: string): Promise<void> {
  const kernel = (await readdir(join(tree, 'boot'))).find((name) => name.startsWith('vmlinuz-'));
  if (!kernel) throw new Error('the package holds no kernel');
  await copyFile(join(tree, 'boot', kernel), join(dir, 'vmlinuz'));
  const found = new Map<string, string>();
  for await (const path of glob('lib/modules/**/*.ko{,.xz}', { cwd: tree }))
    found.set(basename(path).replace(/\.ko(\.xz)?$/, ''), join(tree, path));
  await mkdir(join(dir, 'modules'));
  for (const [index, name] of modules.entries()) {
    const path = found.get(name);
    if (!path) throw new Error(`the package holds no module ${name}`);
    const target = join(dir, 'modules', `${String(index + 1).padStart(2, '0')}-${name}.ko`);
    await copyFile(path, path.endsWith('.xz') ? `${target}.xz` : target);
    if (path.endsWith('.xz')) await runProgram('xz', ['--decompress', `${target}.xz`]);
  }
}
