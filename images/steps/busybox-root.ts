// The smallest root filesystem that is pleasant to use: one static BusyBox under all its names.
import { chmod, chown, copyFile, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runProgram } from '@wrenn/kit/run-program';

export const busybox = '/bin/busybox';

const files: Record<string, string> = {
  'etc/passwd':
    'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n',
  'etc/group': 'root:x:0:\ntty:x:5:\nuser:x:1000:\nnogroup:x:65534:\n',
  'etc/shadow': 'root:*:20000:0:99999:7:::\nuser:*:20000:0:99999:7:::\nnobody:*:20000:0:99999:7:::\n',
  'etc/hosts': '127.0.0.1 localhost\n::1 localhost\n',
  'etc/hostname': 'minimal\n',
  'etc/resolv.conf': '',
  'etc/shells': '/bin/sh\n/bin/ash\n',
  'etc/profile': "export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin\nexport PS1='\\u@\\h:\\w\\$ '\n",
  'etc/os-release': 'NAME="Wrenn minimal"\nID=wrenn-minimal\nPRETTY_NAME="Wrenn minimal (BusyBox)"\n',
};

export async function makeBusyboxRoot(root: string): Promise<void> {
  const directories = 'bin dev etc home/user lib mnt opt proc root run srv sys tmp usr/local/bin var/log var/tmp';
  for (const path of directories.split(' ')) await mkdir(join(root, path), { recursive: true });
  await copyFile(busybox, join(root, 'bin/busybox'));
  await chmod(join(root, 'bin/busybox'), 0o755);
  for (const applet of (await runProgram(busybox, ['--list'])).split('\n'))
    if (applet !== '' && applet !== 'busybox') await symlink('busybox', join(root, 'bin', applet));
  await symlink('bin', join(root, 'sbin'));
  await symlink('../bin', join(root, 'usr/bin'));
  await symlink('../bin', join(root, 'usr/sbin'));
  await symlink('../run', join(root, 'var/run'));
  for (const [path, content] of Object.entries(files)) await writeFile(join(root, path), content);
  await chmod(join(root, 'etc/shadow'), 0o600);
  await chmod(join(root, 'root'), 0o700);
  for (const path of ['tmp', 'var/tmp']) await chmod(join(root, path), 0o1777);
  await chown(join(root, 'home/user'), 1000, 1000);
}
