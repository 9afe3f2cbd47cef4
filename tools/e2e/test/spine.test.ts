import { inMs } from '@wrenn/kit/deadlines';
import { isSandboxId } from '@wrenn/kit/ids';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { expect, test } from 'vitest';

import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';

const mesh = useMesh({ templates: ['minimal', 'debian'] });

test('one call boots a microVM with a kernel of its own; a second one removes it', async () => {
  const { client } = mesh.now;
  const { sandbox, timings } = await client.sandboxes.create({ template: 'minimal' }, inMs(120_000));
  expect(sandbox).toMatchObject({ template: 'minimal', state: SandboxState.RUNNING, hostId: 'local', vcpuCount: 1 });
  expect(isSandboxId(sandbox?.id ?? '')).toBe(true);
  expect(timings.map(({ stage }) => stage)).toEqual(expect.arrayContaining(['network', 'disk', 'boot']));

  const sandboxId = sandbox?.id ?? '';
  const process = { command: 'uname', args: ['-r'] };
  const { stdout, exitCode } = await client.processes.exec({ sandboxId, process }, inMs(30_000));
  expect(exitCode).toBe(0);
  expect(Buffer.from(stdout).toString()).toMatch(/^\d+\.\d+\.\d+.*cloud-amd64\n$/);

  const destroyed = await client.sandboxes.destroy({ sandboxId }, inMs(60_000));
  expect(destroyed.sandbox?.state).toBe(SandboxState.DESTROYED);
  const again = await client.sandboxes.destroy({ sandboxId }, inMs(60_000));
  expect(again.sandbox?.state).toBe(SandboxState.DESTROYED);
});

test('the debian template runs Python, and a command reads its stdin', async () => {
  const guest = await mesh.now.create('debian');
  const python = await guest.exec('python3', ['-c', 'import sys; print(sys.version_info[0], 6 * 7)']);
  expect(python.out).toBe('3 42\n');
  const upper = await guest.exec('tr', ['a-z', 'A-Z'], { stdin: 'wrenn\nsandbox\n' });
  expect(upper.out).toBe('WRENN\nSANDBOX\n');
  expect(await guest.sh('git --version && curl --version | head -1 && whoami')).toMatch(/^git .*\ncurl .*\nuser$/);
  await guest.destroy();
});

test('a sandbox has the CPUs, memory, disk and environment it was asked for', async () => {
  const guest = await mesh.now.create('minimal', {
    vcpuCount: 2,
    memoryBytes: 192n * 2n ** 20n,
    diskBytes: 2n * 2n ** 30n,
    env: { GREETING: 'hello world' },
    metadata: { owner: 'ada' },
  });
  expect(await guest.sh('grep -c ^processor /proc/cpuinfo')).toBe('2');
  // Whatever else it could keep time by goes wrong on a busy host. For a second it is `tsc-early`: not calibrated to the
  // end.
  const clock = () => guest.sh('cat /sys/devices/system/clocksource/clocksource0/current_clocksource');
  await eventually('the processor is its clock', async () => (await clock()) === 'tsc', 10_000);
  const memoryKiB = Number(await guest.sh("awk '/MemTotal/ { print $2 }' /proc/meminfo"));
  expect(memoryKiB).toBeGreaterThan(120 * 1024);
  expect(memoryKiB).toBeLessThan(192 * 1024);
  const diskKiB = Number(await guest.sh("df -k / | awk 'END { print $2 }'"));
  expect(diskKiB).toBeGreaterThan(1.8 * 2 ** 20);
  expect(await guest.sh('echo "$GREETING|$WRENN_SANDBOX|$WRENN_SANDBOX_ID|$WRENN_TEMPLATE_ID"')).toBe(
    `hello world|true|${guest.id}|minimal`,
  );
  expect((await guest.get()).metadata).toEqual({ owner: 'ada' });
  await guest.destroy();
});

test('two sandboxes share nothing they write', async () => {
  const [one, two] = await Promise.all([mesh.now.create(), mesh.now.create()]);
  await one.sh('echo one > /root/who && sync');
  await two.sh('echo two > /root/who && sync');
  expect([await one.sh('cat /root/who'), await two.sh('cat /root/who')]).toEqual(['one', 'two']);
  const bootIds = await Promise.all([one, two].map((guest) => guest.sh('cat /proc/sys/kernel/random/boot_id')));
  expect(bootIds[0]).not.toBe(bootIds[1]);
  await Promise.all([one.destroy(), two.destroy()]);
});

test('a guest’s clock is the host’s', async () => {
  const guest = await mesh.now.create();
  const before = Math.floor(Date.now() / 1000);
  const inside = Number(await guest.sh('date +%s'));
  expect(inside).toBeGreaterThanOrEqual(before - 1);
  expect(inside).toBeLessThanOrEqual(Math.ceil(Date.now() / 1000) + 1);
  await guest.destroy();
});

test('the console shows what the kernel and the agent said', async () => {
  const guest = await mesh.now.create();
  const { console } = await mesh.now.client.logs.readConsole({ sandboxId: guest.id }, inMs(10_000));
  expect(console.length).toBeGreaterThan(0);
  expect(console.length).toBeLessThanOrEqual(65_536);
  await guest.destroy();
});

endsWithoutLeaks(mesh);
