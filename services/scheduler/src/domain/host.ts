export interface HostReport {
  readonly id: string;
  readonly address: string;
  // Where it serves bytes in number; empty if it does not say.
  readonly bulkAddress: string;
  readonly cpuCount: number;
  readonly memoryBytes: number;
  readonly slotCount: number;
  // 0: it does not say, and is not limited.
  readonly diskBytes: number;
  readonly vmm: string;
  readonly accelerator: string;
}

export interface Host extends HostReport {
  readonly reportedAt: Date;
}

// A host with what is placed on it.
export interface HostLoad extends Host {
  readonly sandboxCount: number;
  readonly placedMemoryBytes: number;
  readonly placedVcpuCount: number;
  readonly placedDiskBytes: number;
}

const silenceLimitMs = 15_000;

export function isAlive(host: Host, now: Date): boolean {
  return now.getTime() - host.reportedAt.getTime() <= silenceLimitMs;
}
