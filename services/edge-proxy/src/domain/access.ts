// Who may reach which port of a sandbox. Whoever may not is told what one is told of a sandbox that does not exist.
// Secrets are compared in a time that does not tell how much of them is right.
import { timingSafeEqual } from 'node:crypto';

import { trafficTokenCookie } from '@wrenn/kit/tokens';

import type { Field } from './fields.ts';
import { Refusal, notFound } from './refusal.ts';
import type { RequestHead } from './request-head.ts';
import type { GuestRoute } from './route.ts';
import { type ShownTokens, takeTokens } from './shown-tokens.ts';
import { signatureFor, signedRequestOf } from './signed-file.ts';

export interface Access {
  readonly isSecure: boolean; // Its ports are for who shows the traffic token.
  readonly publicPorts: readonly number[]; // For everybody all the same.
  readonly trafficToken: string;
  readonly accessToken: string; // The agent's. Empty: nobody but its host knows it.
}

// A request that may pass, as the guest may see it.
export interface Admission {
  readonly request: RequestHead;
  readonly route: GuestRoute;
  readonly toClient: readonly string[]; // Fields to add to the response.
}

// The guest's agent, which is root there.
export const agentPort = 49_983;
const agentHeader = 'x-access-token';

// Undefined access: there is no such sandbox.
export function admitted(access: Access | undefined, sent: RequestHead, named: GuestRoute, nowS: number): Admission {
  if (!access) throw notFound();
  const { request, route, shown } = takeTokens(sent, named);
  if (route.port === agentPort) {
    requireAgentAccess(access, request, route, nowS);
    return { request: withoutSecrets(request, [access.trafficToken]), route, toClient: [] };
  }
  const clean = withoutSecrets(request, [access.trafficToken, access.accessToken]);
  if (!access.isSecure || access.publicPorts.includes(route.port)) return { request: clean, route, toClient: [] };
  return { request: clean, route, toClient: requireToken(access.trafficToken, sent, route, shown) };
}

// What the client is told in return.
function requireToken(token: string, sent: RequestHead, route: GuestRoute, shown: ShownTokens): string[] {
  const isShown = (texts: readonly string[]) => texts.some((text) => isEqual(text, token));
  // A page at such a host would tell it to every other that it leads to.
  if (isShown(shown.host)) return ['Referrer-Policy: same-origin'];
  if (isShown(shown.cookie) && isOfItsOwn(sent)) return [];
  const cookie = `Set-Cookie: ${cookieOf(token, route)}`;
  if (isShown(shown.query)) {
    if (mayRedirect(sent, route)) throw withoutTokenInSight(route, cookie);
    return [cookie];
  }
  if (isShown(shown.header)) return [cookie];
  throw notFound();
}

function cookieOf(token: string, { prefix }: GuestRoute): string {
  const path = prefix === '' ? '/' : prefix.slice(0, prefix.lastIndexOf('/') + 1);
  return `${trafficTokenCookie}=${token}; Path=${path}; HttpOnly; SameSite=Lax`;
}

// Browsers send cookies along with what any page asks for, a WebSocket too. Only pages of this very host may make
// use of them.
function isOfItsOwn({ host, fields }: RequestHead): boolean {
  return fields.every(
    ({ key, value }) => key !== 'origin' || value.toLowerCase().replace(/^https?:\/\//, '') === host.toLowerCase(),
  );
}

// A browser that opens a page: its address bar, its history and the page itself need not hold the token. A target
// that begins with two slashes would lead to another host.
function mayRedirect({ method, framing, upgrade, fields }: RequestHead, { prefix, target }: GuestRoute): boolean {
  const isPage = method === 'GET' && framing.kind === 'none' && upgrade === undefined;
  const accepts = fields.some(({ key, value }) => key === 'accept' && value.includes('text/html'));
  return isPage && accepts && (prefix !== '' || !/^\/[/\\]/.test(target));
}

function withoutTokenInSight({ prefix, keepsPrefix, target }: GuestRoute, cookie: string): Refusal {
  return new Refusal('TOKEN_TAKEN', 'the token is in a cookie now', {
    fields: [`Location: ${keepsPrefix ? '' : prefix}${target}`, cookie],
  });
}

function requireAgentAccess({ accessToken }: Access, request: RequestHead, route: GuestRoute, nowS: number): void {
  const tokens = request.fields.filter(({ key }) => key === agentHeader);
  if (tokens.length > 0) {
    if (tokens.length === 1 && isEqual(tokens[0]!.value, accessToken)) return;
    throw notFound();
  }
  const signed = signedRequestOf(request, route.target);
  // One that only its host can check is for the agent to judge.
  if (!signed || (accessToken !== '' && !isEqual(signed.signature, signatureFor(signed, accessToken))))
    throw notFound();
  if (signed.expiresAtS !== undefined && signed.expiresAtS < nowS) {
    throw new Refusal('URL_EXPIRED', 'the signature has expired');
  }
}

// Wherever else a secret was put, it goes no further.
function withoutSecrets(request: RequestHead, secrets: readonly string[]): RequestHead {
  const holdsNone = ({ value }: Field) => !secrets.some((secret) => secret !== '' && value.includes(secret));
  return { ...request, fields: request.fields.filter(holdsNone) };
}

function isEqual(text: string, secret: string): boolean {
  const [a, b] = [Buffer.from(text, 'latin1'), Buffer.from(secret, 'latin1')];
  return secret !== '' && a.length === b.length && timingSafeEqual(a, b);
}
