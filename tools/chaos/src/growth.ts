// What the services of a mesh take: resident memory and descriptors, and how both grew.
import { readFileSync, readdirSync } from 'node:fs';

import type { Mesh } from '@wrenn/cli/mesh/mesh';
import { planServices } from '@wrenn/cli/mesh/service-plan';
import { table } from '@wrenn/cli/output/table';

export interface Usage {
  readonly pid: number;
  readonly residentKiB: number;
  readonly descriptorCount: number;
  readonly restartCount: number;
}

export type UsageByService = ReadonlyMap<string, Usage>;

export function measure(mesh: Mesh): UsageByService {
  const usages = planServices(mesh.options).flatMap(({ name }) => {
    const { running, restartCount } = mesh.service(name);
    const usage = running && usageOf(running.pid, restartCount);
    return usage ? [[name, usage] as const] : [];
  });
  return new Map(usages);
}

function usageOf(pid: number, restartCount: number): Usage | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const residentKiB = Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0);
    return { pid, residentKiB, descriptorCount: readdirSync(`/proc/${pid}/fd`).length, restartCount };
  } catch (error) {
    // It ended just now.
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}

export function growthTable(before: UsageByService, after: UsageByService): string {
  const rows = [...after].map(([name, now]) => {
    const was = before.get(name);
    const isSame = was !== undefined && was.pid === now.pid;
    const percent = isSame ? ((now.residentKiB / was.residentKiB - 1) * 100).toFixed(1) : '';
    return [
      name,
      mebibytes(was?.residentKiB),
      mebibytes(now.residentKiB),
      percent,
      String(was?.descriptorCount ?? ''),
      String(now.descriptorCount),
      isSame ? String(now.descriptorCount - was.descriptorCount) : '',
      String(now.restartCount),
    ];
  });
  return table(['SERVICE', 'MIB BEFORE', 'AFTER', 'GROWTH %', 'FDS BEFORE', 'AFTER', 'GROWTH', 'RESTARTS'], rows);
}

function mebibytes(kib: number | undefined): string {
  return kib === undefined ? '' : (kib / 1024).toFixed(1);
}
