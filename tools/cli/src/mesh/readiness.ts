// When a service counts as up: its health says SERVING, or, for one that speaks HTTP only, it answers.
import { setTimeout as sleep } from 'node:timers/promises';

import { inMs } from '@wrenn/kit/deadlines';
import { messageOf } from '@wrenn/kit/errors';
import { Lanes } from '@wrenn/kit/lanes';
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from '@wrenn/proto/grpc/health/v1/health';

import type { ServicePlan } from './service-plan.ts';

type Probed = Pick<ServicePlan, 'name' | 'address' | 'speaks'>;

export interface HealthAnswer {
  readonly isServing: boolean;
  readonly detail: string;
}

export async function askHealth({ name, address, speaks }: Probed, limitMs = 2000): Promise<HealthAnswer> {
  try {
    return speaks === 'http' ? await askHttp(address, limitMs) : await askGrpc(name, address, limitMs);
  } catch (error) {
    return { isServing: false, detail: messageOf(error) };
  }
}

export async function untilServing(service: Probed, limitMs: number, signal: AbortSignal): Promise<void> {
  const endMs = Date.now() + limitMs;
  let answer: HealthAnswer = { isServing: false, detail: 'not asked yet' };
  while (!answer.isServing) {
    signal.throwIfAborted();
    if (Date.now() > endMs) {
      throw new Error(`${service.name} is not ready after ${limitMs / 1000} s: ${answer.detail}`);
    }
    answer = await askHealth(service);
    if (!answer.isServing) await sleep(30, undefined, { signal });
  }
}

async function askGrpc(name: string, address: string, limitMs: number): Promise<HealthAnswer> {
  const lanes = new Lanes(address, name);
  try {
    const { status } = await lanes.client('control', Health).check({ service: '' }, inMs(limitMs));
    const word = Object.entries(ServingStatus).find(([, value]) => value === status)?.[0] ?? String(status);
    return { isServing: status === ServingStatus.SERVING, detail: word };
  } finally {
    lanes.close();
  }
}

async function askHttp(address: string, limitMs: number): Promise<HealthAnswer> {
  const answer = await fetch(`http://${address}/healthz`, { signal: AbortSignal.timeout(limitMs) });
  await answer.body?.cancel();
  return { isServing: answer.status === 200, detail: `GET /healthz: ${answer.status}` };
}
