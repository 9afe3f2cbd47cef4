// Who reaches a sandbox's ports through the edge, and the secrets that let one in.
import { invalidField } from '@wrenn/kit/errors';
import { newAccessToken, newTrafficToken } from '@wrenn/kit/tokens';
import { requireWithin } from '@wrenn/kit/validate';

export interface PortAccess {
  // Its ports are for who shows the traffic token.
  readonly isSecure: boolean;
  // For everybody all the same. In order.
  readonly publicPorts: readonly number[];
}

export interface Access extends PortAccess {
  readonly trafficToken: string;
  // Empty for a sandbox that is older than these tokens: its host made one.
  readonly accessToken: string;
}

const agentPort = 49_983;
const maxPublicPorts = 64;

export function requirePortAccess(request: { secure: boolean; publicPorts: readonly number[] }): PortAccess {
  const { secure: isSecure, publicPorts } = request;
  if (publicPorts.length > maxPublicPorts) throw invalidField('public_ports', `must be at most ${maxPublicPorts}`);
  if (publicPorts.length > 0 && !isSecure) {
    throw invalidField('public_ports', 'say nothing without `secure`: every port is public then');
  }
  for (const port of publicPorts) {
    requireWithin(port, 'public_ports', 1, 65_535);
    if (port === agentPort) throw invalidField('public_ports', `${agentPort} is the agent's, which is never public`);
  }
  return { isSecure, publicPorts: [...new Set(publicPorts)].toSorted((a, b) => a - b) };
}

// Each sandbox has secrets of its own, also one that goes on from another.
export function newAccess({ isSecure, publicPorts }: PortAccess): Access {
  return { isSecure, publicPorts, trafficToken: newTrafficToken(), accessToken: newAccessToken() };
}
