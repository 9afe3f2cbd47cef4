// Where a port of a sandbox is served: below a path of the edge, and at a host name of its own.
import { trafficTokenQuery } from '@wrenn/kit/tokens';

export interface PortPlace {
  readonly edgeUrl: string; // Without a slash at its end.
  readonly domain: string;
  readonly sandboxId: string;
  readonly port: number;
  readonly token?: string; // Where it takes one.
}

export interface PortUrls {
  readonly byPath: string;
  readonly byHost: string;
}

export function portUrls({ edgeUrl, domain, sandboxId, port, token }: PortPlace): PortUrls {
  const { protocol, port: edgePort } = new URL(edgeUrl);
  const label = token === undefined ? `${port}-${sandboxId}` : `${port}-${sandboxId}-${token}`;
  return {
    byPath: `${edgeUrl}/proxy/${sandboxId}/${port}/${token === undefined ? '' : `?${trafficTokenQuery}=${token}`}`,
    byHost: `${protocol}//${label}.${domain}${edgePort === '' ? '' : `:${edgePort}`}/`,
  };
}
