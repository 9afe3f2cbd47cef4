// How records look on the wire.
import { durationOfMs, timestampOf } from '@wrenn/kit/duration';
import { invalidField } from '@wrenn/kit/errors';
import { SandboxState as StateMessage, TimeoutAction as TimeoutMessage } from '@wrenn/proto/wrenn/v1/sandbox';

import type { Access } from './domain/access.ts';
import { type HostLoad, isAlive } from './domain/host.ts';
import type { StageTiming } from './domain/ports.ts';
import type { SandboxState } from './domain/sandbox-state.ts';
import type { Sandbox, SandboxEvent, Template } from './domain/sandbox.ts';
import type { NamedSnapshot } from './domain/snapshot.ts';

const messageOfState: Record<SandboxState, StateMessage> = {
  pending: StateMessage.PENDING,
  starting: StateMessage.STARTING,
  running: StateMessage.RUNNING,
  pausing: StateMessage.PAUSING,
  paused: StateMessage.PAUSED,
  resuming: StateMessage.RESUMING,
  destroying: StateMessage.DESTROYING,
  destroyed: StateMessage.DESTROYED,
  error: StateMessage.ERROR,
};
const stateOfMessage = new Map(
  Object.entries(messageOfState).map(([state, message]) => [message, state as SandboxState]),
);

// States to list.
export function requireStates(messages: readonly StateMessage[]): SandboxState[] {
  return messages.map((message) => {
    const state = stateOfMessage.get(message);
    if (state) return state;
    throw invalidField('states', `${message} is no state to ask for`);
  });
}

export function sandboxMessage(sandbox: Sandbox) {
  return {
    id: sandbox.id,
    template: sandbox.template,
    state: messageOfState[sandbox.state],
    errorReason: sandbox.errorReason,
    errorMessage: sandbox.errorMessage,
    hostId: sandbox.hostId ?? '',
    vcpuCount: sandbox.vcpuCount,
    memoryBytes: BigInt(sandbox.memoryBytes),
    diskBytes: BigInt(sandbox.diskBytes),
    createdAt: timestampOf(sandbox.createdAt),
    expiresAt: timestampOf(sandbox.expiresAt),
    ttl: durationOfMs(sandbox.ttlMs),
    metadata: { ...sandbox.metadata },
    version: BigInt(sandbox.version),
    project: sandbox.project,
    onTimeout: sandbox.onTimeout === 'pause' ? TimeoutMessage.PAUSE : TimeoutMessage.DESTROY,
    autoResume: sandbox.autoResume,
    snapshotId: sandbox.snapshotId ?? '',
    isDurable: sandbox.state === 'paused' && sandbox.isDurable,
    secure: sandbox.access.isSecure,
    publicPorts: [...sandbox.access.publicPorts],
  };
}

// Holds secrets.
export function accessMessage({ isSecure, publicPorts, trafficToken, accessToken }: Access) {
  return { secure: isSecure, publicPorts: [...publicPorts], trafficToken, accessToken };
}

// For edges. Holds secrets.
export function foundMessage({ state, guestAddress, hostId = '', autoResume, access }: Sandbox) {
  return {
    state: messageOfState[state],
    guestAddress: state === 'running' ? guestAddress : '',
    hostId: state === 'running' ? hostId : '',
    autoResume,
    access: accessMessage(access),
  };
}

export function timingMessage({ stage, startedAfterMs, durationMs }: StageTiming) {
  return { stage, startedAfter: durationOfMs(startedAfterMs), duration: durationOfMs(durationMs) };
}

export function eventMessage(event: SandboxEvent) {
  return {
    sequence: event.sequence,
    sandboxId: event.sandboxId,
    fromState: event.from ? messageOfState[event.from] : StateMessage.UNSPECIFIED,
    toState: messageOfState[event.to],
    reason: event.reason,
    at: timestampOf(event.at),
  };
}

export function hostMessage(host: HostLoad, now: Date) {
  return {
    id: host.id,
    address: host.address,
    isAlive: isAlive(host, now),
    reportedAt: timestampOf(host.reportedAt),
    capacity: {
      cpuCount: host.cpuCount,
      memoryBytes: BigInt(host.memoryBytes),
      slotCount: host.slotCount,
      vmm: host.vmm,
      accelerator: host.accelerator,
      diskBytes: BigInt(host.diskBytes),
    },
    sandboxCount: host.sandboxCount,
    placedMemoryBytes: BigInt(host.placedMemoryBytes),
    placedVcpuCount: host.placedVcpuCount,
    placedDiskBytes: BigInt(host.placedDiskBytes),
  };
}

export function templateMessage(template: Template) {
  return {
    ...template,
    memoryBytes: BigInt(template.memoryBytes),
    diskBytes: BigInt(template.diskBytes),
  };
}

export function snapshotMessage(snapshot: NamedSnapshot) {
  return {
    name: snapshot.name,
    id: snapshot.id,
    sandboxId: snapshot.namedOf,
    template: snapshot.template,
    hostId: snapshot.hostId,
    vcpuCount: snapshot.vcpuCount,
    memoryBytes: BigInt(snapshot.memoryBytes),
    diskBytes: BigInt(snapshot.diskBytes),
    createdAt: timestampOf(snapshot.createdAt),
    generation: snapshot.generation,
  };
}
