import { expect, test } from 'vitest';

import { fileSignature } from './file-signature.ts';

const accessToken = '0123456789abcdef0123456789abcdef';

// printf '%s' /a:read:ann:$TOKEN:1000 | openssl dgst -sha256 -binary | base64, as the guest's agent has it.
test('signs as E2B does', () => {
  expect(fileSignature({ path: '/a', operation: 'read', user: 'ann', accessToken, expiresAtS: 1000 })).toBe(
    'v1_WEScnsc6rDMM/+SjjAxtCQ8kDI7+FZgebe/dFeK3j04',
  );
  expect(fileSignature({ path: '/a', operation: 'write', user: '', accessToken, expiresAtS: undefined })).toBe(
    'v1_hwvqoOA8mh+mqGHwxCM49+WlxOYriFJU+7n/ivWSJJo',
  );
});
