// The command line of a QEMU microvm. docs/decisions/0008-qemu-microvm.md says why each flag is there.
import type { Launch } from '../domain/vm.ts';

export type Accelerator = 'kvm' | 'tcg';

export interface GuestFiles {
  readonly kernel: string;
  readonly initramfs: string;
}

export interface QemuPlatform extends GuestFiles {
  readonly accelerator: Accelerator;
  readonly tscKhz: number; // The host's; a guest that must measure it under load can hang.
}

export const qemuProgram = 'qemu-system-x86_64';
// Room for one full console ring.
export const consoleBytes = 65_536;

export function vmName(sandboxId: string): string {
  return `wrenn-${sandboxId}`;
}

// What the machine starts with: a kernel, or the device state that a descriptor holds.
export type MachineStart = { readonly kind: 'boot' } | { readonly kind: 'restore'; readonly vmstateFd: number };

export function machineArgs(
  platform: QemuPlatform,
  launch: Launch,
  paths: { ram: string; qmp: string },
  start: MachineStart = { kind: 'boot' },
): string[] {
  const { slot } = launch;
  return [
    ...['-name', vmName(launch.sandboxId)],
    ...['-M', 'microvm,memory-backend=ram,suppress-vmdesc=on', ...acceleratorArgs(platform.accelerator)],
    ...['-smp', String(launch.vcpuCount), '-m', `${launch.memoryBytes / 1048576}M`],
    ...['-object', `memory-backend-file,id=ram,size=${launch.memoryBytes},mem-path=${quoted(paths.ram)},share=on`],
    ...bareArgs,
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    // A guest that resets or powers off stays for its console to be read, until it is destroyed.
    ...['-action', 'reboot=shutdown,shutdown=pause'],
    ...['-global', 'migration.send-configuration=off'],
    ...(start.kind === 'boot' ? kernelArgs(platform, '') : ['-S', '-incoming', `fd:${start.vmstateFd}`]),
    ...['-chardev', `ringbuf,id=console,size=${consoleBytes}`, '-serial', 'chardev:console'],
    ...['-blockdev', `driver=file,node-name=root-file,filename=${quoted(launch.diskPath)},cache.no-flush=on`],
    ...['-blockdev', 'driver=qcow2,node-name=root,file=root-file,discard=unmap'],
    // A host whose disk is full is told to the guest as an error; by itself QEMU would stop the guest.
    ...['-device', 'virtio-blk-device,drive=root,werror=report,rerror=report'],
    ...['-netdev', `tap,id=net,ifname=${slot.tap},script=no,downscript=no`],
    ...['-device', `virtio-net-device,netdev=net,mac=${slot.guestMac}`],
    ...['-qmp', `unix:${quoted(paths.qmp)},server=on,wait=off`],
  ];
}

// A machine that only boots the kernel, says so on its console and ends.
export function probeArgs(platform: QemuPlatform): string[] {
  return [
    ...['-M', 'microvm', ...acceleratorArgs(platform.accelerator), '-smp', '1', '-m', '128M'],
    ...bareArgs,
    '-no-reboot',
    ...kernelArgs(platform, 'wrenn.probe'),
    ...['-serial', 'stdio'],
  ];
}

const bareArgs = ['-nodefaults', '-no-user-config', '-display', 'none'];

// Guests that see "enhanced" or "fast short" string instructions copy and clear by single bytes, which is what is fast in
// real processors: TCG emulates each byte. Without them they go by eight.
const tcgCpu = 'max,-erms,-fsrm';

function acceleratorArgs(accelerator: Accelerator): string[] {
  // TCG's cache of translated code counts towards the VM's memory limit: it must have a bound.
  if (accelerator === 'tcg') return ['-accel', 'tcg,thread=multi,tb-size=256', '-cpu', tcgCpu];
  return ['-accel', 'kvm', '-cpu', 'host'];
}

function kernelArgs({ kernel, initramfs, accelerator, tscKhz }: QemuPlatform, extra: string): string[] {
  const words = ['console=ttyS0 reboot=t panic=-1 quiet no_timer_check cryptomgr.notests', `tsc_early_khz=${tscKhz}`];
  // TCG reads the host's TSC for every vCPU. Checked against ticks, which a busy host lets come late, it would be given
  // up for those, and the guest's clock lose seconds; with two vCPUs it would not be used at all.
  if (accelerator === 'tcg') words.push('tsc=reliable', ...forTranslation);
  const append = [...words, extra].join(' ').trimEnd();
  return ['-kernel', kernel, '-initrd', initramfs, '-append', append];
}

// TCG knows code it has translated by its virtual address: at random ones every program that starts is translated anew.
// And it walks page tables itself after each switch of processes: four levels are shorter than five.
// A kernel with one vCPU would take the lock prefixes out of its code at boot, one by one: 0.13 to 0.26 s, and code that was translated
// already is translated anew. They cost nothing, as QEMU does not lock anything for a single vCPU.
const forTranslation = ['norandmaps', 'no5lvl', 'noreplace-smp'];

// QEMU splits option values at commas; a doubled one stands for itself.
function quoted(path: string): string {
  return path.replaceAll(',', ',,');
}
