import type { SandboxId } from '@wrenn/kit/ids';
import { expect, test } from 'vitest';

import { deathReasonOf, differences } from './differences.ts';
import type { HostVm } from './ports.ts';
import { type SandboxState, sandboxStates } from './sandbox-state.ts';
import type { Sandbox } from './sandbox.ts';

const at = new Date(0);

function sandbox(id: string, state: SandboxState): Sandbox {
  return {
    id: id as SandboxId,
    project: 'default',
    template: 'debian',
    state,
    errorReason: state === 'error' ? 'X' : '',
    errorMessage: '',
    hostId: 'h',
    guestAddress: '10.11.0.1',
    vcpuCount: 1,
    memoryBytes: 1,
    diskBytes: 1,
    ttlMs: 1000,
    metadata: {},
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
  };
}

function vm(id: string, deathReason?: string): HostVm {
  return {
    sandboxId: id as SandboxId,
    state: deathReason === undefined ? 'running' : 'dead',
    guestAddress: '',
    isDead: deathReason !== undefined,
    deathReason: deathReason ?? '',
    deathMessage: '',
  };
}

test('finds nothing where both sides agree', () => {
  expect(differences([sandbox('a', 'running'), sandbox('b', 'starting')], [vm('a'), vm('b')])).toEqual({
    absent: [],
    dead: [],
    strange: [],
  });
});

test.each(sandboxStates)('misses a VM only of a running sandbox: %s', (state) => {
  const { absent } = differences([sandbox('a', state)], []);
  expect(absent.map(({ id }) => id)).toEqual(state === 'running' ? ['a'] : []);
});

test.each(sandboxStates)('calls a VM strange when its sandbox is over or paused: %s', (state) => {
  const { strange } = differences([sandbox('a', state)], [vm('a')]);
  expect(strange).toEqual(['destroyed', 'error', 'paused'].includes(state) ? ['a'] : []);
});

test('calls a VM of no sandbox strange and a dead one of a running sandbox dead', () => {
  const { strange, dead } = differences([sandbox('a', 'running')], [vm('a', 'VMM_DIED'), vm('b')]);
  expect(strange).toEqual(['b']);
  expect(dead.map(({ sandbox: { id } }) => id)).toEqual(['a']);
});

test('takes a host’s reason only if it is one', () => {
  expect(deathReasonOf(vm('a', 'GUEST_PANIC'))).toBe('GUEST_PANIC');
  expect(deathReasonOf(vm('a', 'oops; drop table'))).toBe('VMM_DIED');
  expect(deathReasonOf(vm('a', ''))).toBe('VMM_DIED');
});
