import { hasReason } from '@wrenn/kit/errors';
import { type SandboxId, newSandboxId } from '@wrenn/kit/ids';
import { expect, test } from 'vitest';

import { listPage } from './list-page.ts';
import type { ListQuery } from './ports.ts';
import type { Sandbox } from './sandbox.ts';

function storeOf(count: number, metadata: Record<string, string> = {}) {
  const at = new Date(1_700_000_000_000);
  const all: Sandbox[] = Array.from({ length: count }, () => newSandboxId())
    .toSorted()
    .toReversed()
    .map((id) => ({
      id,
      project: 'default',
      template: 'debian',
      state: 'running',
      errorReason: '',
      errorMessage: '',
      hostId: 'h',
      guestAddress: '',
      vcpuCount: 1,
      memoryBytes: 1,
      diskBytes: 1,
      ttlMs: 1,
      metadata,
      onTimeout: 'destroy',
      autoResume: false,
      access: { isSecure: false, publicPorts: [], trafficToken: '', accessToken: '' },
      snapshotId: undefined,
      isDurable: false,
      previousSnapshotId: undefined,
      nextSnapshotId: undefined,
      version: 1,
      createdAt: at,
      stateChangedAt: at,
      expiresAt: at,
    }));
  return {
    all,
    list: async ({ behind, limit }: ListQuery) => all.filter(({ id }) => !behind || id < behind.id).slice(0, limit),
  };
}

async function pagesOf(store: ReturnType<typeof storeOf>, size: number): Promise<SandboxId[][]> {
  const pages: SandboxId[][] = [];
  let token = '';
  do {
    const page = await listPage(store, [], size, token);
    pages.push(page.sandboxes.map(({ id }) => id));
    token = page.nextToken;
  } while (token !== '');
  return pages;
}

test('gives each sandbox once over all pages, and no token with the last', async () => {
  const store = storeOf(7);
  const pages = await pagesOf(store, 3);
  expect(pages.map((page) => page.length)).toEqual([3, 3, 1]);
  expect(pages.flat()).toEqual(store.all.map(({ id }) => id));
  expect(await pagesOf(storeOf(6), 3)).toHaveLength(2);
  expect(await pagesOf(storeOf(0), 3)).toEqual([[]]);
});

test('cuts a page before its metadata outgrows a message', async () => {
  const metadata = Object.fromEntries(Array.from({ length: 32 }, (_, i) => [`${i}`, 'é'.repeat(256)]));
  const store = storeOf(300, metadata);
  const pages = await pagesOf(store, 1000);
  expect(pages.length).toBeGreaterThan(1);
  expect(pages.flat()).toHaveLength(300);
});

test.each(['x', 'MTIz', Buffer.from(`1 ${newSandboxId()} x`).toString('base64url'), 'bm90IGFuIGlk'])(
  'refuses a token that it did not give: %s',
  async (token) => {
    const refused = await listPage(storeOf(1), [], 1, token).catch((error: unknown) => error);
    expect(hasReason(refused, 'INVALID_FIELD') && refused.meta['field']).toBe('page_token');
  },
);

test('takes 1 to 1000 as a page size, and 100 for 0', async () => {
  expect((await listPage(storeOf(150), [], 0, '')).sandboxes).toHaveLength(100);
  await expect(listPage(storeOf(1), [], 1001, '')).rejects.toThrow(/page_size/);
});
