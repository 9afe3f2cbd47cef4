// Proxies of ours that stand in front of the edge, by address: what they say of their own clients, and of the traces
// that requests belong to, is true. Nobody else is believed.
import { BlockList, isIP } from 'node:net';

export type IsTrusted = (address: string) => boolean;

// Addresses and networks (`10.0.0.0/8`), with commas between. Throws on anything else.
export function trustedProxies(text: string): IsTrusted {
  const list = new BlockList();
  for (const entry of text.split(',').map((part) => part.trim())) {
    if (entry !== '') add(list, entry);
  }
  return (address) => list.check(address, familyOf(address));
}

function add(list: BlockList, entry: string): void {
  const [network = '', prefix, rest] = entry.split('/');
  if (isIP(network) === 0 || rest !== undefined) throw new Error(`"${entry}" is no address and no network`);
  if (prefix === undefined) list.addAddress(network, familyOf(network));
  else list.addSubnet(network, /^\d{1,3}$/.test(prefix) ? Number(prefix) : -1, familyOf(network));
}

function familyOf(address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 6 ? 'ipv6' : 'ipv4';
}
