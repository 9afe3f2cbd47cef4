// Requests as clients may send them, drawn from RFC 9110, RFC 9112 and the published shapes of request smuggling:
// what the edge answers and what a guest may see of them. `{p}` stands for the path prefix of the sandbox.
export interface RequestVector {
  readonly name: string;
  readonly bytes: string; // Latin-1. The client sends nothing more.
  readonly statuses: readonly number[]; // Of the answers, in order.
  readonly seen: readonly string[]; // By the guest: method, target and body of each request.
}

const lines = (...all: string[]) => `${all.join('\r\n')}\r\n\r\n`;
const get = (...fields: string[]) => lines('GET {p}/x HTTP/1.1', 'Host: a', ...fields);
const post = (...fields: string[]) => lines('POST {p}/x HTTP/1.1', 'Host: a', ...fields);
const smuggled = lines('GET {p}/smuggled HTTP/1.1', 'Host: a');
const inner = 'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n';
const chunked = 'Transfer-Encoding: chunked';

// Answered with this alone, and never seen by the guest, nor anything behind it.
const refused = (status: number, vectors: readonly (readonly [name: string, bytes: string])[]): RequestVector[] =>
  vectors.map(([name, bytes]) => ({ name, bytes, statuses: [status], seen: [] }));

const passed = (vectors: readonly (readonly [name: string, bytes: string, ...seen: string[]])[]): RequestVector[] =>
  vectors.map(([name, bytes, ...seen]) => ({ name, bytes, statuses: seen.map(() => 200), seen }));

const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND', 'M-SEARCH', 'QUERY'];
const spaces = [
  ['two spaces', '  '],
  ['a tab', '\t'],
  ['a vertical tab', '\v'],
  ['a form feed', '\f'],
  ['a no-break space', '\xa0'],
] as const;
const controls = Array.from({ length: 32 }, (_, code) => code).filter((code) => ![9, 10, 13].includes(code));
const hex = (code: number) => `0x${code.toString(16).padStart(2, '0')}`;
const delimiters = Array.from('()<>@,;\\"/[]?={}');

const requestLines = refused(400, [
  ['nothing but a line end', '\r\n\r\n\r\n'],
  ['a space before the method', ` ${get()}`],
  ['no method', lines(' {p}/ HTTP/1.1', 'Host: a')],
  ['no target', lines('GET  HTTP/1.1', 'Host: a')],
  ['no version, as in HTTP/0.9', 'GET {p}/\r\n\r\n'],
  ['a version in small letters', lines('GET {p}/ http/1.1', 'Host: a')],
  ['a version of another protocol', lines('GET {p}/ HTCPCP/1.1', 'Host: a')],
  ['a version without a dot', lines('GET {p}/ HTTP/11', 'Host: a')],
  ['a version of one digit', lines('GET {p}/ HTTP/1', 'Host: a')],
  ['a version of three digits', lines('GET {p}/ HTTP/1.10', 'Host: a')],
  ['a version with a leading zero', lines('GET {p}/ HTTP/01.1', 'Host: a')],
  ['a version with a sign', lines('GET {p}/ HTTP/+1.1', 'Host: a')],
  ['a version with a comma', lines('GET {p}/ HTTP/1,1', 'Host: a')],
  ['a version with a space', lines('GET {p}/ HTTP /1.1', 'Host: a')],
  ['a space behind the version', lines('GET {p}/ HTTP/1.1 ', 'Host: a')],
  ['a second version', lines('GET {p}/ HTTP/1.1 HTTP/1.1', 'Host: a')],
  ['a request within the target', lines('GET {p}/ HTTP/1.1 GET {p}/smuggled HTTP/1.1', 'Host: a')],
  ['a space in the target', lines('GET {p}/a b HTTP/1.1', 'Host: a')],
  ['a target in quotes', lines('GET "{p}/" HTTP/1.1', 'Host: a')],
  ['a fragment', lines('GET {p}/#x HTTP/1.1', 'Host: a')],
  ['a target without a slash', lines('GET x HTTP/1.1', 'Host: a')],
  ['an asterisk', lines('OPTIONS * HTTP/1.1', 'Host: a')],
  ['an asterisk for GET', lines('GET * HTTP/1.1', 'Host: a')],
  ['authority form for GET', lines('GET a:80 HTTP/1.1', 'Host: a')],
  ['an absolute target of another host', lines('GET http://b{p}/ HTTP/1.1', 'Host: a')],
  ['an absolute target of another port', lines('GET http://a:81{p}/ HTTP/1.1', 'Host: a')],
  ['an absolute target with user information', lines('GET http://u:p@a{p}/ HTTP/1.1', 'Host: a')],
  ['an absolute target of another scheme', lines('GET file://a{p}/ HTTP/1.1', 'Host: a')],
  ['an absolute target without a host', lines('GET http://{p}/ HTTP/1.1', 'Host: a')],
  ['an absolute target with one slash', lines('GET http:/a{p}/ HTTP/1.1', 'Host: a')],
  ...delimiters.map((char) => [`${char} in the method`, lines(`G${char}T {p}/ HTTP/1.1`, 'Host: a')] as const),
  ...spaces.map(
    ([name, space]) => [`${name} behind the method`, lines(`GET${space}{p}/ HTTP/1.1`, 'Host: a')] as const,
  ),
  ...spaces.map(
    ([name, space]) => [`${name} behind the target`, lines(`GET {p}/${space}HTTP/1.1`, 'Host: a')] as const,
  ),
  ...controls.map(
    (code) =>
      [
        `the byte ${hex(code)} in the target`,
        lines(`GET {p}/${String.fromCharCode(code)} HTTP/1.1`, 'Host: a'),
      ] as const,
  ),
  ...[127, 128, 160, 255].map(
    (code) =>
      [
        `the byte ${hex(code)} in the target`,
        lines(`GET {p}/${String.fromCharCode(code)} HTTP/1.1`, 'Host: a'),
      ] as const,
  ),
  ['a TLS client', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
  ['a SOCKS client', '\x05\x01\x00'],
  ['an SSH client', 'SSH-2.0-OpenSSH_9.2\r\n\r\n'],
  ['the HTTP/2 preface', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0'],
  ['the PROXY protocol', `PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n${get()}`],
]);

const otherRequestLines = [
  ...refused(405, [
    ['CONNECT', lines('CONNECT 127.0.0.1:22 HTTP/1.1', 'Host: 127.0.0.1:22')],
    ['CONNECT with a path', lines('CONNECT {p}/ HTTP/1.1', 'Host: a')],
    ['TRACE', lines('TRACE {p}/ HTTP/1.1', 'Host: a')],
  ]),
  ...refused(505, [
    ['HTTP/0.9 in words', lines('GET {p}/ HTTP/0.9', 'Host: a')],
    ['HTTP/1.2', lines('GET {p}/ HTTP/1.2', 'Host: a')],
    ['HTTP/2.0', lines('GET {p}/ HTTP/2.0', 'Host: a')],
    ['HTTP/3.0', lines('GET {p}/ HTTP/3.0', 'Host: a')],
  ]),
  ...refused(431, [
    ['a target of 20,000 bytes', lines(`GET {p}/${'a'.repeat(20_000)} HTTP/1.1`, 'Host: a')],
    ['a method of 20,000 bytes', lines(`${'G'.repeat(20_000)} {p}/ HTTP/1.1`, 'Host: a')],
    ['a field of 20,000 bytes', get(`X: ${'a'.repeat(20_000)}`)],
    ['a name of 20,000 bytes', get(`${'a'.repeat(20_000)}: x`)],
    ['101 fields', get(...Array.from({ length: 100 }, (_, n) => `X-${n}: y`))],
    ['10,000 fields', get(...Array.from({ length: 10_000 }, () => 'X: y'))],
  ]),
  ...passed([
    ...methods
      .filter((method) => method !== 'HEAD')
      .map((method) => [method, lines(`${method} {p}/x HTTP/1.1`, 'Host: a'), `${method} /x `] as const),
    ['a method in small letters', lines('post {p}/x HTTP/1.1', 'Host: a').replace('post', 'M-SEARCH'), 'M-SEARCH /x '],
    ['an empty line in front', `\r\n${get()}`, 'GET /x '],
    [
      'a path of all that may stand in one',
      lines("GET {p}/-._~!$&'()*+,;=:@%00%2F%2e%2E/ HTTP/1.1", 'Host: a'),
      "GET /-._~!$&'()*+,;=:@%00%2F%2e%2E/ ",
    ],
    ['two slashes', lines('GET {p}//x//y/ HTTP/1.1', 'Host: a'), 'GET //x//y/ '],
    ['dots', lines('GET {p}/../../..;/./x HTTP/1.1', 'Host: a'), 'GET /../../..;/./x '],
    ['a backslash', lines('GET {p}/\\x HTTP/1.1', 'Host: a'), 'GET /\\x '],
    ['a query alone', lines('GET {p}?a=/b?c HTTP/1.1', 'Host: a'), 'GET /?a=/b?c '],
    ['nothing behind the prefix', lines('GET {p} HTTP/1.1', 'Host: a'), 'GET / '],
    ['an absolute target', lines('GET http://a{p}/x?y HTTP/1.1', 'Host: a'), 'GET /x?y '],
    ['an absolute target in capitals', lines('GET HTTP://A{p}/x HTTP/1.1', 'Host: a'), 'GET /x '],
    ['HTTP/1.0', lines('GET {p}/x HTTP/1.0', 'Host: a'), 'GET /x '],
    [
      'HTTP/1.0 and a second request',
      lines('GET {p}/x HTTP/1.0', 'Host: a', 'Connection: keep-alive') + smuggled,
      'GET /x ',
    ],
  ]),
];

const headLines = refused(400, [
  ['a bare LF behind the request line', 'GET {p}/x HTTP/1.1\nHost: a\r\n\r\n'],
  ['bare LFs only', 'GET {p}/x HTTP/1.1\nHost: a\n\n'],
  ['a bare LF behind a field', `GET {p}/x HTTP/1.1\r\nHost: a\nX: y\r\n\r\n`],
  ['a bare LF in a value', get(`X: y\n${chunked}`)],
  ['a bare LF as the last line', 'GET {p}/x HTTP/1.1\r\nHost: a\r\n\n'],
  ['a bare CR behind the request line', 'GET {p}/x HTTP/1.1\rHost: a\r\n\r\n'],
  ['a bare CR in a value', get(`X: y\r${chunked}`)],
  ['a bare CR before the line end', 'GET {p}/x HTTP/1.1\r\r\nHost: a\r\n\r\n'],
  ['a bare CR as the last line', 'GET {p}/x HTTP/1.1\r\nHost: a\r\n\r\r\n'],
  ['a folded field', get('X: a', ' b')],
  ['a field folded by a tab', get('X: a', '\tb')],
  ['a folded Transfer-Encoding', post('Transfer-Encoding:', ' chunked') + smuggled],
  ['a folded first field', lines('GET {p}/x HTTP/1.1', ' Host: a')],
  ['a line of white space', get(' ')],
  ['a field without a colon', get('Content-Length 5')],
  ['a field without a name', get(': x')],
  ['a space before the colon', get('Content-Length : 5')],
  ['a tab before the colon', get('Content-Length\t: 5')],
  ['a space within a name', get('Content Length: 5')],
  ['a space before a name', lines('GET {p}/x HTTP/1.1', 'Host: a', ' Content-Length: 5')],
  ['a name beyond ASCII', get('X\xe9: y')],
  ...delimiters.map((char) => [`${char} in a name`, get(`X${char}Y: z`)] as const),
  ...controls.map((code) => [`the byte ${hex(code)} in a name`, get(`X${String.fromCharCode(code)}: y`)] as const),
  ...controls.map((code) => [`the byte ${hex(code)} in a value`, get(`X: a${String.fromCharCode(code)}b`)] as const),
  ['DEL in a value', get('X: \x7f')],
]);

const hosts = [
  ...refused(400, [
    ['no Host', lines('GET {p}/x HTTP/1.1')],
    ['no Host in HTTP/1.0', lines('GET {p}/x HTTP/1.0')],
    ['two Hosts', get('Host: b')],
    ['two Hosts that agree', get('host: a')],
    ['no Host, but an absolute target', lines('GET http://a{p}/x HTTP/1.1')],
    ...[
      '',
      'u@a',
      'u:p@a',
      'a/b',
      'a?b',
      'a#b',
      'a, b',
      'a b',
      'a\tb',
      '"a"',
      'a\\b',
      '[::1',
      '[]',
      '::1',
      '[::1]x',
      '[::1%25eth0]',
      'a:',
      'a:8o',
      'a:-1',
      'a:1:2',
      'a:123456',
      'a%2eb',
      'a\xe9',
      '*',
      'http://a',
      'a'.repeat(1000),
    ].map(
      (host) =>
        [`the Host ${JSON.stringify(host.slice(0, 20))}`, lines('GET {p}/x HTTP/1.1', `Host: ${host}`)] as const,
    ),
  ]),
  ...passed(
    ['a:80', 'A', 'a.b.', '127.0.0.1:1', '[::1]:80', 'xn--bcher-kva.example', 'a_b'].map(
      (host) => [`the Host ${host}`, lines('GET {p}/x HTTP/1.1', `Host: ${host}`), 'GET /x '] as const,
    ),
  ),
];

const encodings = [
  'identity',
  'gzip',
  'gzip, chunked',
  'chunked, gzip',
  'chunked, identity',
  'chunked, chunked',
  'chunked,',
  ',chunked',
  'xchunked',
  'chunkedx',
  'chunked;q=1',
  '"chunked"',
  "'chunked'",
  'chunked\xa0',
  'ch\xfcnked',
  'chun ked',
  'chunked chunked',
  '',
];
const lengths = [
  '-1',
  '+1',
  '0x1',
  '1_0',
  '1,1',
  '1, 1',
  '1 1',
  '1.0',
  '1e1',
  '\xb9',
  'x',
  '',
  '1;',
  '"1"',
  '1'.repeat(16),
  '18446744073709551617',
];

const framings = [
  ...refused(400, [
    ['Content-Length and Transfer-Encoding', `${post('Content-Length: 5', chunked)}0\r\n\r\n${smuggled}`],
    ['Transfer-Encoding and Content-Length', `${post(chunked, 'Content-Length: 5')}0\r\n\r\n${smuggled}`],
    ['both in a GET', `${get('Content-Length: 5', chunked)}0\r\n\r\n${smuggled}`],
    ['both where the length is bad', `${post('Content-Length: x', chunked)}0\r\n\r\n`],
    ['two lengths', `${post('Content-Length: 0', 'Content-Length: 40')}${smuggled}`],
    ['two lengths that agree', `${post('Content-Length: 1', 'content-length: 1')}x`],
    ['two Transfer-Encodings', `${post(chunked, 'Transfer-Encoding: identity')}0\r\n\r\n${smuggled}`],
    ['chunked twice', `${post(chunked, chunked)}0\r\n\r\n`],
    ['chunks in HTTP/1.0', `POST {p}/x HTTP/1.0\r\nHost: a\r\n${chunked}\r\n\r\n0\r\n\r\n${smuggled}`],
    ['a body before a change of protocol', `${post('Connection: upgrade', 'Upgrade: x', 'Content-Length: 1')}x`],
    ['chunks before a change of protocol', `${post('Connection: upgrade', 'Upgrade: x', chunked)}0\r\n\r\n`],
    ...encodings.map(
      (value) =>
        [
          `Transfer-Encoding ${JSON.stringify(value)}`,
          `${post(`Transfer-Encoding: ${value}`)}0\r\n\r\n${smuggled}`,
        ] as const,
    ),
    ...lengths.map(
      (value) => [`Content-Length ${JSON.stringify(value)}`, `${post(`Content-Length: ${value}`)}x`] as const,
    ),
  ]),
  ...refused(417, [['an expectation nobody knows', `${post('Expect: 200-ok', 'Content-Length: 1')}x`]]),
  ...passed([
    ['a length', `${post('Content-Length: 5')}hello`, 'POST /x hello'],
    ['a length with zeros in front', `${post('Content-Length: 005')}hello`, 'POST /x hello'],
    ['a length of nothing', `${post('Content-Length: 0')}${smuggled}`, 'POST /x ', 'GET /smuggled '],
    ['a body of GET', `${get('Content-Length: 5')}hello${get()}`, 'GET /x hello', 'GET /x '],
    ['a body that looks like a request', `${post(`Content-Length: ${inner.length}`)}${inner}`, `POST /x ${inner}`],
    ['no length, so no body', post() + smuggled, 'POST /x ', 'GET /smuggled '],
    ['chunks', `${post(chunked)}5\r\nhello\r\n0\r\n\r\n`, 'POST /x hello'],
    ['Chunked in capitals', `${post('TRANSFER-ENCODING: CHUNKED')}1\r\nx\r\n0\r\n\r\n`, 'POST /x x'],
    ['white space around chunked', `${post('Transfer-Encoding:\t chunked \t')}1\r\nx\r\n0\r\n\r\n`, 'POST /x x'],
    ['chunks, then a request', `${post(chunked)}1\r\nx\r\n0\r\n\r\n${get()}`, 'POST /x x', 'GET /x '],
    ['chunks with extensions', `${post(chunked)}1;a="b c"\r\nx\r\n0;d\r\n\r\n`, 'POST /x x'],
    ['chunks with trailers', `${post(chunked)}1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n${get()}`, 'POST /x x', 'GET /x '],
    ['a chunk size in capitals with zeros', `${post(chunked)}00A\r\n0123456789\r\n0\r\n\r\n`, 'POST /x 0123456789'],
    ['line ends within a chunk', `${post(chunked)}4\r\n\r\n\r\n\r\n0\r\n\r\n`, 'POST /x \r\n\r\n'],
    ['framing named by Connection', `${post('Connection: content-length', 'Content-Length: 1')}x`, 'POST /x x'],
    [
      'chunked named by Connection',
      `${post('Connection: transfer-encoding', chunked)}1\r\nx\r\n0\r\n\r\n`,
      'POST /x x',
    ],
    ['a request of many, then none', get().repeat(20), ...Array.from({ length: 20 }, () => 'GET /x ')],
    ['close, then a request', get('Connection: close') + smuggled, 'GET /x '],
    ['close among others, then a request', get('Connection: keep-alive, Close') + smuggled, 'GET /x '],
    [
      'h2c that is not taken',
      get('Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABkAAQAAP__'),
      'GET /x ',
    ],
  ]),
];

const badChunks = [
  ['a size in hex notation', '0x1\r\nx\r\n0\r\n\r\n'],
  ['no size', '\r\nx\r\n0\r\n\r\n'],
  ['a negative size', '-1\r\nx\r\n0\r\n\r\n'],
  ['a signed size', '+1\r\nx\r\n0\r\n\r\n'],
  ['a space before the size', ' 1\r\nx\r\n0\r\n\r\n'],
  ['a space behind the size', '1 \r\nx\r\n0\r\n\r\n'],
  ['a tab behind the size', '1\t\r\nx\r\n0\r\n\r\n'],
  ['a size with an underscore', '1_0\r\n0123456789abcdef\r\n0\r\n\r\n'],
  ['a size of 17 digits', '10000000000000001\r\nx\r\n0\r\n\r\n'],
  ['a size in other digits', '\xb9\r\nx\r\n0\r\n\r\n'],
  ['a size ended by LF', '1\nx\r\n0\r\n\r\n'],
  ['a size ended by CR', '1\rx\r\n0\r\n\r\n'],
  ['an extension with LF', '1;a\nb\r\nx\r\n0\r\n\r\n'],
  ['an extension with CR', '1;a\rb\r\nx\r\n0\r\n\r\n'],
  ['an extension with NUL', '1;\0\r\nx\r\n0\r\n\r\n'],
  ['a chunk longer than its size', '1\r\nxy\r\n0\r\n\r\n'],
  ['a chunk ended by LF', '1\r\nx\n0\r\n\r\n'],
  ['a chunk ended by CR', '1\r\nx\r0\r\n\r\n'],
  ['a chunk without an end', '1\r\nx0\r\n\r\n'],
  ['a trailer that frames', '0\r\nContent-Length: 5\r\n\r\n'],
  ['a trailer that frames by chunks', '0\r\nTransfer-Encoding: chunked\r\n\r\n'],
  ['a trailer that names a Host', '0\r\nHost: b\r\n\r\n'],
  ['a folded trailer', '0\r\nX: a\r\n b\r\n\r\n'],
  ['a trailer with a bare LF', '0\r\nX: a\nY: b\r\n\r\n'],
  ['a trailer without a colon', '0\r\nX\r\n\r\n'],
  ['LF as the last line', '0\r\n\n'],
] as const;

// Here the head was right, so the guest may have seen the request begin, but never its end nor anything behind.
export const brokenBodies: readonly (readonly [name: string, bytes: string])[] = badChunks.map(([name, body]) => [
  name,
  `${post(chunked)}${body}${smuggled}`,
]);

export const requestVectors: readonly RequestVector[] = [
  ...requestLines,
  ...otherRequestLines,
  ...headLines,
  ...hosts,
  ...framings,
];
