import { expect, test } from 'vitest';

import { portUrls } from './port-urls.ts';

const sandboxId = `cl-${'0'.repeat(25)}`;
const token = 'a'.repeat(25);

test('a port is at a path of the edge and at a host name', () => {
  const place = { edgeUrl: 'http://127.0.0.1:9480', domain: 'localhost', sandboxId, port: 8000 };
  expect(portUrls(place)).toEqual({
    byPath: `http://127.0.0.1:9480/proxy/${sandboxId}/8000/`,
    byHost: `http://8000-${sandboxId}.localhost:9480/`,
  });
});

test('a token goes along in both', () => {
  const place = { edgeUrl: 'https://edge.example', domain: 'sandboxes.example', sandboxId, port: 65_535, token };
  const { byPath, byHost } = portUrls(place);
  expect(byPath).toBe(`https://edge.example/proxy/${sandboxId}/65535/?wrenn_token=${token}`);
  expect(byHost).toBe(`https://65535-${sandboxId}-${token}.sandboxes.example/`);
  expect(new URL(byHost).hostname.split('.')[0]?.length).toBeLessThanOrEqual(63);
});
