// What a guest may send, to whom, and how fast: to the internet, and answers to the host. Everything is dropped
// that no rule here lets through, and each ruleset replaces the former one in a single transaction.
import { type Slot, type SlotRange, guest, indexesOf, slotAt, tap } from './slot.ts';

// Where no guest may start a connection: this host, other slots, the host's neighbours, cloud metadata,
// and whatever else is not the public internet (IANA's special-purpose registry, multicast, class E).
export const closedDestinations: readonly string[] = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/3',
];

// What one guest may send. The kernel's bucket holds the bytes of one second and the burst, and is full at first.
export interface SendLimit {
  readonly bytesPerSecond: number;
  readonly burstBytes: number;
}

// The table inside a slot's namespace. Nothing in there but the kernel may talk: a VMM that a guest took
// over can send no more than the guest could. The limit comes first: what is beyond it costs no more than that.
export function slotRules(slot: Slot, { bytesPerSecond, burstBytes }: SendLimit): string {
  return replacing(
    'wrenn',
    `
  set closed { type ipv4_addr; flags interval; elements = { ${closedDestinations.join(', ')} }; }

  chain genuine {
    type filter hook prerouting priority raw; policy accept;
    iifname "${tap.name}" limit rate over ${bytesPerSecond} bytes/second burst ${burstBytes} bytes counter drop
    meta nfproto ipv6 drop
    iifname "${tap.name}" ether saddr != ${guest.mac} drop
    iifname "${tap.name}" ip saddr != ${guest.address} drop
  }
  chain inwards {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "eth0" ip daddr ${slot.guestAddress} dnat ip to ${guest.address}
  }
  chain outwards {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "eth0" ip saddr ${guest.address} snat ip to ${slot.innerAddress}
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname "eth0" oifname "${tap.name}" ip saddr ${slot.hostAddress} ct status dnat accept
    iifname "${tap.name}" oifname "eth0" ip daddr != @closed ct state new accept
  }
  chain input {
    type filter hook input priority filter; policy drop;
  }
  chain output {
    type filter hook output priority filter; policy drop;
    meta l4proto icmp ct state related accept
  }`,
  );
}

// The host's table, one for each range. It holds even where a slot's own rules do not: nothing starts a
// connection to the host or into a slot, save the host itself.
export function hostRules(range: SlotRange): string {
  const links = indexesOf(range).map((index) => `"${slotAt(index).hostLink}"`);
  return replacing(
    hostTable(range),
    `
  set slots { type ifname; elements = { ${links.join(', ')} }; }

  chain input {
    type filter hook input priority filter - 5; policy accept;
    iifname @slots ct state established,related accept
    iifname @slots drop
  }
  chain forward {
    type filter hook forward priority filter - 5; policy accept;
    oifname @slots ct state established,related accept
    oifname @slots drop
    iifname @slots meta nfproto ipv6 drop
  }
  chain outwards {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${slotAt(range.first).hostAddress}-${slotAt(range.last).innerAddress} oifname != @slots masquerade
  }`,
  );
}

export function noHostRules(range: SlotRange): string {
  return `table inet ${hostTable(range)}\ndelete table inet ${hostTable(range)}\n`;
}

export function hostTable(range: SlotRange): string {
  return `wrenn_${range.first}`;
}

// Deleting needs the table to exist, so it is declared first.
function replacing(table: string, body: string): string {
  return `table inet ${table}\ndelete table inet ${table}\ntable inet ${table} {${body}\n}\n`;
}
