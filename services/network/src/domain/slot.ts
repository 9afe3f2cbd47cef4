// Every name and address of a slot follows from its index alone, so that what a crash left behind can
// be found, and removed, without any record of it.
export const maxSlotIndex = 32_767;
export const guest = { address: '169.254.0.21', mac: '02:fc:00:00:00:05' } as const;
// The guest's side of the namespace. The MAC is the same in every slot: a guest that is resumed in
// another slot finds its gateway where its ARP cache says.
export const tap = { name: 'tap0', address: '169.254.0.22/30', mac: '02:fc:00:00:00:06', queueLength: 5000 } as const;

export interface Slot {
  readonly index: number;
  readonly namespace: string;
  readonly hostLink: string; // The host's end of the veth pair; the other end is `eth0` in the namespace.
  readonly hostAddress: string;
  readonly innerAddress: string; // Of `eth0`, and what the guest's packets carry once they leave.
  readonly guestAddress: string; // By which the host reaches the guest.
  readonly vmmUid: number; // Owner of the TAP device, user and group alike.
}

export interface SlotRange {
  readonly first: number;
  readonly last: number;
}

const namespacePrefix = 'wrenn-ns-';
const linkPrefix = 'wrenn-v-';
const firstVmmUid = 200_000;

export function slotAt(index: number): Slot {
  if (!Number.isInteger(index) || index < 1 || index > maxSlotIndex) throw new RangeError(`there is no slot ${index}`);
  return {
    index,
    namespace: `${namespacePrefix}${index}`,
    hostLink: `${linkPrefix}${index}`,
    hostAddress: addressIn('10.12', 2 * index),
    innerAddress: addressIn('10.12', 2 * index + 1),
    guestAddress: addressIn('10.11', index),
    vmmUid: firstVmmUid + index,
  };
}

export function indexesOf(range: SlotRange): number[] {
  return Array.from({ length: range.last - range.first + 1 }, (_, offset) => range.first + offset);
}

export function isWithin(range: SlotRange, index: number): boolean {
  return index >= range.first && index <= range.last;
}

// The slot that a namespace or host link belongs to; undefined for anything not named by us.
export function indexOfName(name: string): number | undefined {
  const digits = /^wrenn-(?:ns|v)-([1-9]\d{0,4})$/.exec(name)?.[1];
  const index = Number(digits);
  return digits !== undefined && index <= maxSlotIndex ? index : undefined;
}

function addressIn(network: '10.11' | '10.12', offset: number): string {
  return `${network}.${offset >> 8}.${offset & 255}`;
}
