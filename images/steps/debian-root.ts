// Debian 12 from packages. mmdebstrap mounts /proc, /sys and /dev below its target: it runs in mount and process
// namespaces of its own, so that nothing of it outlives it, however it or we end.
import { runProgram } from '@wrenn/kit/run-program';
import { runLong } from '../run-long.ts';
import type { Say } from '../cache.ts';
import { aptAcquireOptions, releaseSources } from '../debian-mirror.ts';

const release = 'bookworm';
const namespaces = ['--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child', '--mount-proc'];
// Maintainer scripts write dates into files; 2025-01-01 in all of them.
const sourceDateEpoch = '1735689600';

const notInstalled = [
  '/usr/share/man/*',
  '/usr/share/info/*',
  '/usr/share/doc/*',
  '/usr/share/locale/*',
  '/usr/share/lintian/*',
];

const imageSources = [
  `deb http://deb.debian.org/debian ${release} main`,
  `deb http://deb.debian.org/debian ${release}-updates main`,
  `deb http://deb.debian.org/debian-security ${release}-security main`,
];

// Run by mmdebstrap with the new root as $1.
const addUser = `set -eu
chroot "$1" useradd --create-home --uid 1000 --shell /bin/bash user
echo 'user ALL=(ALL) NOPASSWD:ALL' >"$1/etc/sudoers.d/user"
chmod 0440 "$1/etc/sudoers.d/user"
echo debian >"$1/etc/hostname"
printf '127.0.0.1 localhost\\n::1 localhost ip6-localhost\\n' >"$1/etc/hosts"
echo LANG=C.UTF-8 >"$1/etc/default/locale"`;

// The image keeps no trace of this machine or its mirror.
const leaveNoTrace = `set -eu
printf '%s\\n' '${imageSources.join("' '")}' >"$1/etc/apt/sources.list"
rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/apt/sources.list.d/* "$1"/var/log/*.log "$1"/var/log/apt/*
rm -f "$1/etc/resolv.conf"; : >"$1/etc/resolv.conf"; : >"$1/etc/machine-id"`;

// The tree of a root, for others to build on: its owners, modes and capabilities as they are.
const archiving = ['--zstd', '--numeric-owner', '--xattrs', '--xattrs-include=*'];

export async function bootstrapDebianRoot(root: string, packages: readonly string[], say: Say): Promise<void> {
  await mmdebstrap(root, say, [
    '--variant=minbase',
    `--include=${packages.join(',')}`,
    `--customize-hook=${addUser}`,
    `--customize-hook=${leaveNoTrace}`,
  ]);
}

export async function archiveRoot(root: string, archive: string): Promise<void> {
  await runProgram('tar', [...archiving, '-C', root, '-cf', archive, '.'], { timeoutMs: 300_000 });
}

// Starts from another root's archive, which spares the most of the time. apt runs outside the new root, as
// mmdebstrap's own does: there it knows this machine's mirror.
export async function extendDebianRoot(
  root: string,
  archive: string,
  packages: readonly string[],
  say: Say,
): Promise<void> {
  const unpack = `tar ${archiving.join(' ')} -C "$1" --exclude=./etc/apt/sources.list -xpf '${archive}'`;
  const apt = 'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -qy -o DPkg::Chroot-Directory="$1"';
  await mmdebstrap(root, say, [
    '--variant=custom',
    `--setup-hook=${unpack}`,
    `--customize-hook=${apt} install ${packages.join(' ')}`,
    `--customize-hook=${leaveNoTrace}`,
  ]);
}

async function mmdebstrap(root: string, say: Say, options: readonly string[]): Promise<void> {
  const acquire = await aptAcquireOptions();
  await runLong(
    say,
    'unshare',
    [
      ...namespaces,
      'mmdebstrap',
      '--mode=root',
      '--format=directory',
      '--aptopt=Acquire::Retries "3"',
      ...acquire.map((option) => `--aptopt=${option}`),
      ...notInstalled.map((path) => `--dpkgopt=path-exclude=${path}`),
      '--dpkgopt=path-include=/usr/share/doc/*/copyright',
      '--dpkgopt=path-include=/usr/share/locale/locale.alias',
      '--dpkgopt=force-unsafe-io',
      ...options,
      release,
      root,
      ...(await releaseSources(release)),
    ],
    { env: { ...process.env, SOURCE_DATE_EPOCH: sourceDateEpoch, LC_ALL: 'C.UTF-8' } },
  );
}
