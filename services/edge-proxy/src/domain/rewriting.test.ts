import { expect, test } from 'vitest';

import { rewriteCookie, rewriteLink, rewriteReference, rewriteRefresh } from './rewriting.ts';

const prefix = '/proxy/cl-x/8000';
const below = { port: 8000, prefix, host: 'edge:9480' };
const named = { port: 8000, prefix: '', host: '8000-cl-x.localhost:9480' };

test.each([
  ['/x', `${prefix}/x`, '/x'],
  ['/dir/', `${prefix}/dir/`, '/dir/'],
  ['/', `${prefix}/`, '/'],
  ['/a%2Fb//c/..;/../d?u=/e#/f', `${prefix}/a%2Fb//c/..;/../d?u=/e#/f`, '/a%2Fb//c/..;/../d?u=/e#/f'],
  ['/\\evil.example', `${prefix}/\\evil.example`, '/\\evil.example'],
  // By a name of the guest itself.
  ['http://10.11.0.7:8000/z?q', `${prefix}/z?q`, '/z?q'],
  ['http://localhost:8000/z', `${prefix}/z`, '/z'],
  ['HTTP://LocalHost:8000/z', `${prefix}/z`, '/z'],
  ['http://127.0.0.1:8000', `${prefix}/`, '/'],
  ['http://0.0.0.0:8000?q', `${prefix}/?q`, '/?q'],
  ['http://[::1]:8000#f', `${prefix}/#f`, '/#f'],
  ['http://169.254.0.21:8000/', `${prefix}/`, '/'],
  ['http://[::ffff:10.11.0.7]:8000/', `${prefix}/`, '/'],
  ['http://user:pass@10.11.0.7:8000/z', `${prefix}/z`, '/z'],
  ['//localhost:8000/z', `${prefix}/z`, '/z'],
  ['http://localhost:8000//evil.example/', `${prefix}//evil.example/`, '//8000-cl-x.localhost:9480//evil.example/'],
  // Another port of the same sandbox.
  ['http://10.11.0.7:9000/z', '/proxy/cl-x/9000/z', '//9000-cl-x.localhost:9480/z'],
  ['http://localhost/z', '/proxy/cl-x/80/z', '//80-cl-x.localhost:9480/z'],
  ['https://localhost:/z', '/proxy/cl-x/443/z', '//443-cl-x.localhost:9480/z'],
])('%s is %s behind a path prefix and %s by name', (reference, byPath, byName) => {
  expect(rewriteReference(reference, below)).toBe(byPath);
  expect(rewriteReference(reference, named)).toBe(byName);
});

test.each([
  '',
  'dir/',
  '../x',
  '?q',
  '#f',
  'http:/x',
  'http:x',
  'mailto:a@10.11.0.7',
  'ftp://localhost:8000/',
  'https://example.com/x',
  'http://example.com:8000/x',
  '//example.com/x',
  'http://localhost.example.com:8000/',
  'http://10.11.0.7.example.com/',
  'http://10.110.0.7/',
  'http://localhost:8000@example.com/',
  'http://localhost:80a/',
  'http://localhost:0/',
  'http://localhost:65536/',
  `${prefix}/x`,
  prefix,
  `${prefix}?q`,
])('%s stays as it is', (reference) => {
  expect(rewriteReference(reference, below)).toBe(reference);
});

test('a path that only begins like the prefix gains it', () => {
  expect(rewriteReference(`${prefix}0/x`, below)).toBe(`${prefix}${prefix}0/x`);
});

test.each([
  ['5', '5'],
  ['0; url=/x', `0; url=${prefix}/x`],
  ['0;URL=http://localhost:8000/x?url=/y', `0;URL=${prefix}/x?url=/y`],
  ['0; url="/x"', `0; url="${prefix}/x"`],
  ["0; url='/x' ", `0; url='${prefix}/x' `],
  ['0; url="/x', `0; url="${prefix}/x`],
  ['0; url=https://example.com/', '0; url=https://example.com/'],
])('Refresh: %s is %s', (value, rewritten) => {
  expect(rewriteRefresh(value, below)).toBe(rewritten);
});

test.each([
  ['</x>; rel=preload', `<${prefix}/x>; rel=preload`],
  ['</a>; rel="next", <http://localhost:8000/b>', `<${prefix}/a>; rel="next", <${prefix}/b>`],
  ['</a>; title="</b>, \\"</c>"', `<${prefix}/a>; title="</b>, \\"</c>"`],
  ['<https://example.com/a,b>; rel=x', '<https://example.com/a,b>; rel=x'],
  ['</never ends', '</never ends'],
])('Link: %s is %s', (value, rewritten) => {
  expect(rewriteLink(value, below)).toBe(rewritten);
});

test.each([
  ['a=b', 'a=b', 'a=b'],
  ['a=b; Path=/', `a=b; Path=${prefix}/`, 'a=b; Path=/'],
  ['a=b;path=/x; HttpOnly', `a=b; Path=${prefix}/x; HttpOnly`, 'a=b;path=/x; HttpOnly'],
  ['a=b; Path=x', 'a=b; Path=x', 'a=b; Path=x'],
  ['a="b"; Secure; SameSite=Lax', 'a="b"; Secure; SameSite=Lax', 'a="b"; Secure; SameSite=Lax'],
  ['a=b; Domain=localhost; Path=/', `a=b; Path=${prefix}/`, 'a=b; Path=/'],
  ['a=b; DOMAIN = .example.com', 'a=b', 'a=b'],
  [`a=b; Path=${prefix}/x`, `a=b; Path=${prefix}/x`, `a=b; Path=${prefix}/x`],
])('Set-Cookie: %s is %s behind a path prefix and %s by name', (value, byPath, byName) => {
  expect(rewriteCookie(value, below)).toBe(byPath);
  expect(rewriteCookie(value, named)).toBe(byName);
});

test('no reference of any bytes throws, or lets an address of a guest out', () => {
  for (let code = 0; code < 256; code++) {
    const char = String.fromCharCode(code);
    for (const reference of [
      char,
      `/${char}`,
      `http://${char}`,
      `http://10.11.0.7${char}8000/`,
      `//10.11.0.7:${char}`,
    ]) {
      for (const rewrite of [rewriteReference, rewriteRefresh, rewriteLink, rewriteCookie]) rewrite(reference, below);
    }
  }
});
