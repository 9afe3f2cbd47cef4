import { fileSignature } from '@wrenn/kit/file-signature';
import { newSandboxId } from '@wrenn/kit/ids';
import { newAccessToken, newTrafficToken } from '@wrenn/kit/tokens';
import { expect, test } from 'vitest';

import { type Access, admitted, agentPort } from './access.ts';
import { Refusal } from './refusal.ts';
import { parseRequestHead } from './request-head.ts';
import { type GuestRoute, routeOf } from './route.ts';

const id = newSandboxId();
const other = newTrafficToken();
const access: Access = {
  isSecure: true,
  publicPorts: [80],
  trafficToken: newTrafficToken(),
  accessToken: newAccessToken(),
};
const { trafficToken: token, accessToken } = access;
const open: Access = { ...access, isSecure: false, publicPorts: [] };
const nowS = 1000;

interface Asked {
  readonly method?: string;
  readonly host?: string;
  readonly fields?: readonly string[];
}

function ask(target: string, { method = 'GET', host = 'edge:9480', fields = [] }: Asked = {}, to = access) {
  const lines = [`${method} ${target} HTTP/1.1`, `Host: ${host}`, ...fields];
  const request = parseRequestHead(Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'));
  return admitted(to, request, routeOf(request, 'localhost') as GuestRoute, nowS);
}

function codeOf(...asked: Parameters<typeof ask>): string {
  try {
    ask(...asked);
    return 'passes';
  } catch (error) {
    if (error instanceof Refusal) return error.code;
    throw error;
  }
}

const at = (port: number, rest = '/') => `/proxy/${id}/${port}${rest}`;
const hostOf = (port: number, more = '') => `${port}-${id}${more}.localhost:9480`;

test.each([
  ['nothing', {}],
  ['an empty header', { fields: ['X-Wrenn-Token:'] }],
  ['a wrong header', { fields: [`X-Wrenn-Token: ${other}`] }],
  ['a part of it', { fields: [`X-Wrenn-Token: ${token.slice(0, -1)}`] }],
  ['more than it', { fields: [`X-Wrenn-Token: ${token}0`] }],
  ['it in capitals', { fields: [`X-Wrenn-Token: ${token.toUpperCase()}`] }],
  ['it in another header', { fields: [`Authorization: Bearer ${token}`] }],
  ['the other secret', { fields: [`X-Wrenn-Token: ${accessToken}`] }],
  ['a wrong cookie', { fields: [`Cookie: wrenn-token=${other}`] }],
  ['a cookie of a like name', { fields: [`Cookie: x-wrenn-token=${token}; wrenn-token2=${token}`] }],
  ['the cookie from a page of another host', { fields: [`Cookie: wrenn-token=${token}`, 'Origin: http://evil'] }],
  ['the cookie from no page at all', { fields: [`Cookie: wrenn-token=${token}`, 'Origin: null'] }],
])('with %s one is told what one is told of a sandbox that does not exist', (_what, asked) => {
  const refusal = (() => {
    try {
      return ask(at(8000), asked);
    } catch (error) {
      return error;
    }
  })();
  expect(refusal).toMatchObject({ code: 'NOT_FOUND' });
  expect(() => admitted(undefined, {} as never, {} as never, nowS)).toThrow((refusal as Refusal).message);
});

test.each([
  ['a header', at(8000), { fields: [`X-Wrenn-Token: ${token}`] }],
  ['the second of two', at(8000), { fields: [`X-Wrenn-Token: ${other}`, `x-wrenn-token: ${token}`] }],
  ['the query', at(8000, `/?wrenn_token=${token}`), {}],
  ['the query, among others', at(8000, `/?a=b&wrenn_token=${token}&c`), {}],
  ['a cookie', at(8000), { fields: [`Cookie: a=b; wrenn-token=${token}`] }],
  ['a cookie, from its own page', at(8000), { fields: [`Cookie: wrenn-token=${token}`, 'Origin: https://EDGE:9480'] }],
  ['the host', '/', { host: hostOf(8000, `-${token}`) }],
])('a token in %s is good for every port', (_what, target, asked) => {
  expect(codeOf(target, asked)).toBe('passes');
});

test('a public port takes no token, and neither does any port of a sandbox that is not secure', () => {
  expect(codeOf(at(80))).toBe('passes');
  expect(codeOf(at(8000), {}, open)).toBe('passes');
  expect(codeOf(at(8000), { fields: [`X-Wrenn-Token: ${other}`] }, open)).toBe('passes');
});

test('the token of another sandbox is none of this one', () => {
  const asked = { fields: [`X-Wrenn-Token: ${token}`] };
  expect(codeOf(at(8000), asked, { ...access, trafficToken: other })).toBe('NOT_FOUND');
  expect(codeOf(at(8000), { fields: ['X-Wrenn-Token:'] }, { ...access, trafficToken: '' })).toBe('NOT_FOUND');
});

test.each([
  ['the header', at(8000, '/x?a=%20&b'), { fields: ['A: 1', `X-Wrenn-Token: ${token}`] }],
  ['the query', at(8000, `/x?wrenn_token=${token}&a=%20&b`), { fields: ['A: 1'] }],
  ['a cookie of its own', at(8000, '/x?a=%20&b'), { fields: ['A: 1', `Cookie: wrenn-token=${token}`] }],
  [
    'all of them, and another header',
    at(8000, `/x?a=%20&wrenn_token=${token}&b&wrenn_token=2`),
    {
      fields: [
        `X-Wrenn-Token: ${token}`,
        'A: 1',
        `Cookie: wrenn-token=${token}; wrenn-token=2`,
        `Referer: http://a/?${token}`,
        `X-Access-Token: ${accessToken}`,
      ],
    },
  ],
])('nothing of %s reaches the guest', (_what, target, asked) => {
  for (const to of [access, open]) {
    const { request, route } = ask(target, asked, to);
    expect(route.target).toBe('/x?a=%20&b');
    expect(request.fields.map(({ name, value }) => `${name}: ${value}`)).toEqual(['Host: edge:9480', 'A: 1']);
  }
});

test('what is not its own stays byte for byte', () => {
  const { request, route } = ask(at(8000, '//x?&&a=wrenn_token=1&=&'), {
    fields: ['Cookie: b="c;d";  e=f', 'Cookie: xwrenn-token=1', `X-Access-Token: ${other}`, `X-Wrenn-Token: ${token}`],
  });
  expect(route.target).toBe('//x?&&a=wrenn_token=1&=&');
  expect(request.fields.map(({ value }) => value)).toEqual(['edge:9480', 'b="c;d";  e=f', 'xwrenn-token=1', other]);
});

test('a cookie among others is taken out alone', () => {
  const { request } = ask(at(8000), { fields: [`Cookie: a=b; wrenn-token=${token}; c=d`] });
  expect(request.fields[1]).toMatchObject({ value: 'a=b; c=d' });
});

test('a guest is told the host without the token, as are Origin and Referer', () => {
  const named = hostOf(8000, `-${token}`);
  const fields = [`Origin: http://${named}`, `Referer: http://${named}/page`];
  const { request, toClient } = ask('/x', { host: named, fields });
  const plain = hostOf(8000);
  expect(request.host).toBe(plain);
  expect(request.fields.map(({ value }) => value)).toEqual([plain, `http://${plain}`, `http://${plain}/page`]);
  // Nor are the pages that this one leads to.
  expect(toClient).toEqual(['Referrer-Policy: same-origin']);
});

test('who shows the token in header or query gets a cookie, for this sandbox and out of reach of its pages', () => {
  const asked = { fields: [`X-Wrenn-Token: ${token}`] };
  expect(ask(at(8000), asked).toClient).toEqual([
    `Set-Cookie: wrenn-token=${token}; Path=/proxy/${id}/; HttpOnly; SameSite=Lax`,
  ]);
  expect(ask('/', { ...asked, host: hostOf(8000) }).toClient).toEqual([
    `Set-Cookie: wrenn-token=${token}; Path=/; HttpOnly; SameSite=Lax`,
  ]);
  expect(ask(at(8000, `/?wrenn_token=${token}`)).toClient).toHaveLength(1);
  for (const [target, shown] of [
    [at(8000), { fields: [`Cookie: wrenn-token=${token}`, `X-Wrenn-Token: ${token}`] }],
    [at(80), asked],
  ] as const) {
    expect(ask(target, shown).toClient).toEqual([]);
  }
  expect(ask(at(8000), asked, open).toClient).toEqual([]);
});

test.each([
  [at(8000, `/a//b?x=1&wrenn_token=${token}`), 'edge', `/proxy/${id}/8000/a//b?x=1`],
  [`/absproxy/${id}/8000/a?wrenn_token=${token}`, 'edge', `/absproxy/${id}/8000/a`],
  [at(8000, `//evil.example/?wrenn_token=${token}`), 'edge', `/proxy/${id}/8000//evil.example/`],
  [`/a?wrenn_token=${token}`, hostOf(8000), '/a'],
])('a browser that opens %s is sent to where the token is out of sight', (target, host, location) => {
  const fields = ['Accept: text/html,*/*'];
  try {
    ask(target, { host, fields });
    expect.unreachable();
  } catch (error) {
    expect(error).toMatchObject({ code: 'TOKEN_TAKEN' });
    expect((error as Refusal).fields).toEqual([`Location: ${location}`, expect.stringContaining('Set-Cookie: ')]);
    // Whoever logs it logs no token.
    expect(JSON.stringify(Object.entries(error as Refusal))).not.toContain(token);
    expect((error as Refusal).message).not.toContain(token);
  }
});

test.each([
  ['what would lead to another host', `//evil.example/?wrenn_token=${token}`, { host: hostOf(8000) }],
  ['that, in another way', `/\\evil.example/?wrenn_token=${token}`, { host: hostOf(8000) }],
  ['a form', at(8000, `/?wrenn_token=${token}`), { method: 'POST' }],
])('nobody is sent on from %s', (_what, target, asked) => {
  expect(codeOf(target, { ...asked, fields: ['Accept: text/html'] })).toBe('passes');
});

test('the agent is for who shows its own token, whatever is open', () => {
  const shown = { fields: [`X-Access-Token: ${accessToken}`] };
  for (const to of [access, open, { ...access, publicPorts: [agentPort] }]) {
    for (const [target, host] of [
      [at(agentPort, '/process.Process/Start'), 'edge'],
      ['/process.Process/Start', hostOf(agentPort)],
    ] as const) {
      expect(codeOf(target, { method: 'POST', host, ...shown }, to)).toBe('passes');
      for (const fields of [
        [],
        [`X-Access-Token: ${token}`],
        ['X-Access-Token:'],
        [`X-Access-Token: ${accessToken}`, `X-Access-Token: ${accessToken}`],
        [`X-Wrenn-Token: ${token}`],
        [`X-Wrenn-Token: ${accessToken}`],
        [`Cookie: wrenn-token=${token}`],
        [`Cookie: X-Access-Token=${accessToken}`],
      ]) {
        expect(codeOf(target, { method: 'POST', host, fields }, to)).toBe('NOT_FOUND');
      }
    }
  }
  const { request } = ask(at(agentPort, '/x'), { fields: [...shown.fields, `X-Wrenn-Token: ${token}`] });
  // The agent looks at it again.
  expect(request.fields.map(({ name }) => name)).toEqual(['Host', 'X-Access-Token']);
});

test('where nobody but the host knows the agent’s secret, no token opens it', () => {
  const old = { ...access, accessToken: '' };
  expect(codeOf(at(agentPort), { fields: ['X-Access-Token:'] }, old)).toBe('NOT_FOUND');
  expect(codeOf(at(agentPort), {}, old)).toBe('NOT_FOUND');
  expect(codeOf(at(agentPort, '/files?path=/x&signature=v1_x'), {}, old)).toBe('passes');
});

const signed = (operation: 'read' | 'write', expiresAtS: number | undefined = nowS, secret = accessToken) => {
  const signature = fileSignature({ path: '/a b', operation, user: 'ann', accessToken: secret, expiresAtS });
  const expiration = expiresAtS === undefined ? '' : `&signature_expiration=${expiresAtS}`;
  return `/files?path=%2Fa+b&username=ann&signature=${encodeURIComponent(signature)}${expiration}`;
};

test.each(['GET', 'HEAD', 'POST'])('an URL that was signed for a file leads to the agent: %s', (method) => {
  const good = signed(method === 'POST' ? 'write' : 'read');
  expect(ask(at(agentPort, good), { method }).route.target).toBe(good);
  expect(codeOf(good, { method, host: hostOf(agentPort) })).toBe('passes');
  expect(codeOf(at(agentPort, good.replaceAll('%2B', '+')), { method })).toBe('passes');
  expect(codeOf(at(agentPort, signed(method === 'POST' ? 'read' : 'write')), { method })).toBe('NOT_FOUND');
});

test('an URL that is over is said to be, and one without an end is never', () => {
  expect(codeOf(at(agentPort, signed('read', nowS - 1)))).toBe('URL_EXPIRED');
  const endless = signed('read').replace(/&signature_expiration=\d+/, '');
  expect(codeOf(at(agentPort, endless))).toBe('NOT_FOUND');
  const signature = fileSignature({ path: '/x', operation: 'read', user: '', accessToken, expiresAtS: undefined });
  expect(codeOf(at(agentPort, `/files?path=/x&signature=${encodeURIComponent(signature)}`))).toBe('passes');
});

const good = signed('read');
test.each([
  good.replace('%2Fa', '%2Fb'),
  good.replace('ann', 'root'),
  good.replace('=1000', '=2000'),
  good.replace('=1000', '=x'),
  good.replace('v1_', 'v2_'),
  good.replace('&username', '&signature=&username'),
  good.replace('signature=', 'Signature='),
  good.replace('signature=', 'xsignature='),
  good.replace('&signature=', ';signature='),
  good.replace('/files?', '/files/?'),
  good.replace('/files?', '//files?'),
  good.replace('/files?', '/./files?'),
  good.replace('/files?', '/%66iles?'),
  good.replace('/files?', '/FILES?'),
  good.replace('/files?', '/files/../init?'),
  good.replace('/files?', '/init?'),
  good.replace('/files?', '/process.Process/Start?'),
  good.replace('/files?', '/?/files?'),
  signed('read', nowS, newAccessToken()),
  '/files',
  '/files?path=/etc/shadow',
  '/files?path=/x&signature=',
  '/files?path=/x&signature',
  '/init?signature=a',
  '/',
])('%s opens nothing of the agent', (target) => {
  expect(codeOf(at(agentPort, target))).toBe('NOT_FOUND');
  expect(codeOf(target, { host: hostOf(agentPort) })).toBe('NOT_FOUND');
});

test('nothing else may be done with a signed URL', () => {
  for (const method of ['PUT', 'DELETE', 'PATCH', 'OPTIONS', 'get', 'PROPFIND']) {
    expect(codeOf(at(agentPort, good), { method })).toBe('NOT_FOUND');
  }
  const upgrade = ['Connection: Upgrade', 'Upgrade: websocket'];
  expect(codeOf(at(agentPort, good), { fields: upgrade })).toBe('NOT_FOUND');
  expect(codeOf(at(agentPort, good), { fields: [`X-Access-Token: ${other}`] })).toBe('NOT_FOUND');
});
