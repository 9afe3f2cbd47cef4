// What sandboxes need from the machine they run on. `up` sets right what it safely can and says so;
// `doctor` only looks.
import { access, chmod, constants, mkdir, readFile, stat, statfs, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';

import { runProgram } from '@wrenn/kit/run-program';

export interface HostCheck {
  readonly name: string;
  readonly state: 'ok' | 'note' | 'bad';
  readonly detail: string;
  readonly remedy?: string;
  // Sets it right without asking, where that is safe.
  readonly repair?: () => Promise<void>;
}

const programs = ['qemu-system-x86_64', 'qemu-img', 'ip', 'nft'];
const forwardFile = '/proc/sys/net/ipv4/ip_forward';
const imageFiles = ['vmlinuz', 'vmlinux', 'initramfs', 'wrenn-agent', 'templates'];
const GiB = 2 ** 30;

export async function checkHost(imagesDir: string, dataDir: string, path: string): Promise<HostCheck[]> {
  return Promise.all([
    checkRoot(),
    checkDevice('/dev/net/tun', 'bad', ['10', '200']),
    checkDevice('/dev/kvm', 'note', undefined),
    checkForwarding(),
    ...programs.map((program) => checkProgram(program, path)),
    checkImages(imagesDir),
    checkSpace('/dev/shm', 'guest memory', 1),
    checkSpace(dataDir, 'images and disks', 4),
  ]);
}

// Repairs what can be repaired; throws when something that sandboxes cannot do without stays wrong.
export async function prepareHost(checks: readonly HostCheck[], tell: (line: string) => void): Promise<void> {
  const wrong: string[] = [];
  for (const check of checks.filter(({ state, repair }) => state === 'bad' || repair)) {
    if (check.repair) {
      await check.repair();
      tell(`${check.name}: was ${check.detail}; set right`);
    } else {
      wrong.push(`${check.name}: ${check.detail}${check.remedy ? `; ${check.remedy}` : ''}`);
    }
  }
  if (wrong.length > 0) throw new Error(`this machine is not ready:\n${wrong.join('\n')}`);
}

async function checkRoot(): Promise<HostCheck> {
  if (process.getuid?.() === 0) return { name: 'root', state: 'ok', detail: 'running as root' };
  return { name: 'root', state: 'bad', detail: 'not root', remedy: 'run it as root: namespaces and devices need it' };
}

// Debian's udev makes both devices usable by everyone (0666): VMMs run without privileges.
async function checkDevice(
  path: string,
  stateIfMissing: 'bad' | 'note',
  numbers: readonly [string, string] | undefined,
): Promise<HostCheck> {
  const found = await stat(path).catch(() => undefined);
  if (!found?.isCharacterDevice()) {
    const make = async () => {
      await mkdir('/dev/net', { recursive: true });
      await runProgram('mknod', ['-m', '0666', path, 'c', ...(numbers ?? [])]);
    };
    const detail = numbers ? 'missing' : 'missing: guests are emulated, which is slower';
    return { name: path, state: stateIfMissing, detail, ...(numbers && { repair: make }) };
  }
  const mode = found.mode & 0o777;
  if (mode === 0o666) return { name: path, state: 'ok', detail: 'usable by every user' };
  return { name: path, state: 'bad', detail: `mode 0${mode.toString(8)}`, repair: () => chmod(path, 0o666) };
}

async function checkForwarding(): Promise<HostCheck> {
  const isOn = (await readFile(forwardFile, 'utf8')).trim() === '1';
  if (isOn) return { name: 'net.ipv4.ip_forward', state: 'ok', detail: 'on' };
  return { name: 'net.ipv4.ip_forward', state: 'bad', detail: 'off', repair: () => writeFile(forwardFile, '1') };
}

async function checkProgram(program: string, path: string): Promise<HostCheck> {
  for (const dir of path.split(delimiter)) {
    const file = join(dir, program);
    if (await isReachable(file, constants.X_OK)) return { name: program, state: 'ok', detail: file };
  }
  return { name: program, state: 'bad', detail: 'not installed', remedy: '`make setup` installs it' };
}

async function checkImages(imagesDir: string): Promise<HostCheck> {
  const missing: string[] = [];
  for (const file of imageFiles) if (!(await isReachable(join(imagesDir, file), constants.R_OK))) missing.push(file);
  if (missing.length === 0) return { name: 'images', state: 'ok', detail: imagesDir };
  return {
    name: 'images',
    state: 'bad',
    detail: `${missing.join(', ')} missing in ${imagesDir}`,
    remedy: 'build them with `make images`',
  };
}

async function checkSpace(dir: string, what: string, leastGiB: number): Promise<HostCheck> {
  const name = `space in ${dir}`;
  const existing = (await isReachable(dir, constants.F_OK)) ? dir : '/';
  const { bavail, bsize } = await statfs(existing);
  const free = (bavail * bsize) / GiB;
  const detail = `${free.toFixed(1)} GiB free for ${what}`;
  if (free >= leastGiB) return { name, state: 'ok', detail };
  return { name, state: 'note', detail: `only ${detail}`, remedy: 'free some, or expect DISK_FULL' };
}

function isReachable(path: string, mode: number): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false,
  );
}
