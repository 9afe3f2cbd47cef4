import { WrennError } from '@wrenn/kit/errors';
import { TimeoutAction } from '@wrenn/proto/wrenn/v1/sandbox';
import { expect, test } from 'vitest';

import { UsageError } from '../exit-codes.ts';
import { describeCreateProblem, requestOf } from './create.ts';
import { describeQuota, quotaOf } from './quota.ts';

test('asks for the template’s values where no flag names others', () => {
  expect(requestOf('debian', {})).toEqual({
    template: 'debian',
    vcpuCount: 0,
    memoryBytes: 0n,
    diskBytes: 0n,
    env: {},
    metadata: {},
    requestId: '',
    project: '',
  });
});

test('passes on the id, the project and how long to wait', () => {
  const flags = { requestId: 'build-7', project: 'team-a', queue: '1m30s', ttl: '10m' };
  expect(requestOf('debian', flags)).toMatchObject({
    requestId: 'build-7',
    project: 'team-a',
    queueTimeout: { seconds: 90n },
    ttl: { seconds: 600n },
  });
  expect(() => requestOf('debian', { queue: 'soon' })).toThrow(UsageError);
});

test('passes on what happens when its time is up, and whether a call resumes it', () => {
  expect(requestOf('debian', { onTimeout: 'pause', autoResume: true })).toMatchObject({
    onTimeout: TimeoutAction.PAUSE,
    autoResume: true,
  });
  expect(requestOf('debian', { onTimeout: 'destroy' })).toMatchObject({ onTimeout: TimeoutAction.DESTROY });
});

test('passes on who reaches its ports', () => {
  expect(requestOf('debian', { secure: true, publicPort: ['8000', '80'] })).toMatchObject({
    secure: true,
    publicPorts: [8000, 80],
  });
  expect(() => requestOf('debian', { publicPort: ['80'] })).toThrow(UsageError);
  for (const port of ['0', '65536', 'http']) {
    expect(() => requestOf('debian', { secure: true, publicPort: [port] })).toThrow(UsageError);
  }
});

test('says that waiting is possible where there is no room', () => {
  const full = describeCreateProblem(new WrennError('NO_HOST_LEFT', 'h1 has all of its 3 slots in use'), {});
  expect(String(full)).toMatch(/h1 has all of its 3 slots in use; wait for room with --queue 2m/);
  const waited = new WrennError('NO_HOST_LEFT', 'full');
  expect(describeCreateProblem(waited, { queue: '1s' })).toBe(waited);
  const tooLarge = new WrennError('QUOTA_EXCEEDED', 'full', { meta: { too_large: 'vcpu_count' } });
  expect(describeCreateProblem(tooLarge, {})).toBe(tooLarge);
});

test('reads a quota, and says what it set', () => {
  expect(describeQuota(quotaOf('team-a', { sandboxes: '20', memory: '16G' }))).toBe(
    'team-a: at most 20 sandboxes, 16 GiB of memory',
  );
  expect(describeQuota(quotaOf('team-a', { cpu: '4', disk: '1T' }))).toBe('team-a: at most 4 vCPUs, 1 TiB of disk');
  expect(describeQuota(quotaOf('team-a', {}))).toBe('team-a: no limits');
  expect(() => quotaOf('team-a', { sandboxes: '0' })).toThrow(UsageError);
});
