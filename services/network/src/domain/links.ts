// The interfaces, addresses and routes of a slot, as lines for `ip -batch`.
import { type Slot, guest, tap } from './slot.ts';

// On the host: the namespace, the veth pair and the way to the guest.
export function hostLines(slot: Slot): string {
  return lines(
    `netns add ${slot.namespace}`,
    `link add ${slot.hostLink} type veth peer name eth0 netns ${slot.namespace}`,
    `addr add ${slot.hostAddress}/31 dev ${slot.hostLink}`,
    `link set ${slot.hostLink} up`,
    `route add ${slot.guestAddress}/32 via ${slot.innerAddress} dev ${slot.hostLink}`,
  );
}

// In the namespace. The permanent neighbour spares the first connection an ARP round trip, and a guest
// cannot change it.
export function innerLines(slot: Slot): string {
  return lines(
    'link set lo up',
    `addr add ${slot.innerAddress}/31 dev eth0`,
    'link set eth0 up',
    `route add default via ${slot.hostAddress}`,
    `tuntap add dev ${tap.name} mode tap user ${slot.vmmUid} group ${slot.vmmUid}`,
    `link set ${tap.name} address ${tap.mac} txqueuelen ${tap.queueLength} up`,
    `addr add ${tap.address} dev ${tap.name}`,
    `neigh replace ${guest.address} lladdr ${guest.mac} nud permanent dev ${tap.name}`,
  );
}

export const innerSettings: readonly string[] = [
  'net.ipv4.ip_forward=1',
  'net.ipv6.conf.all.disable_ipv6=1',
  'net.ipv6.conf.default.disable_ipv6=1',
];

function lines(...commands: string[]): string {
  return `${commands.join('\n')}\n`;
}
