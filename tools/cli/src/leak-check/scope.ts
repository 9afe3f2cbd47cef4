// Which things on this machine a mesh could have made. Several meshes may run side by side: what bears
// another one's slot number or lies in its directories is not ours.
export interface MeshScope {
  readonly runDir: string;
  readonly dataDir: string;
  readonly ramDir: string;
  readonly firstSlot: number;
  readonly lastSlot: number;
}

export function isOwnSlot(scope: MeshScope, slot: number): boolean {
  return slot >= scope.firstSlot && slot <= scope.lastSlot;
}

// `wrenn-ns-7` and the like; names without a number belong to every mesh.
export function isOwnName(scope: MeshScope, name: string): boolean {
  const digits = /(\d+)$/.exec(name)?.[1];
  return digits === undefined || isOwnSlot(scope, Number(digits));
}

// The slot an address belongs to: guests are 10.11.0.0 + slot, host links 10.12.0.0 + 2 x slot (+ 1).
export function slotOfAddress(address: string): number | undefined {
  const match = /^10\.(11|12)\.(\d+)\.(\d+)(?:\/\d+)?$/.exec(address);
  if (!match) return undefined;
  const offset = Number(match[2]) * 256 + Number(match[3]);
  return match[1] === '11' ? offset : Math.floor(offset / 2);
}

export function isOwnPath(scope: MeshScope, path: string): boolean {
  return [scope.runDir, scope.dataDir, scope.ramDir].some((dir) => path === dir || path.startsWith(`${dir}/`));
}
