// How a copy-on-write disk is kept over a base image, or over frozen layers of other disks.
export interface NewDisk {
  readonly path: string;
  readonly backingName: string; // An absolute path, or the name of a layer beside it.
  readonly backingFormat: 'raw' | 'qcow2';
  readonly virtualBytes: number;
}

export interface DiskFacts {
  readonly backingName: string;
  readonly backingFormat: string; // Empty where it says none.
  readonly virtualBytes: number;
  readonly isPlain: boolean; // It needs no other file and no feature beyond a layer's.
}

export interface LayerChain {
  readonly layers: readonly string[]; // Paths, newest first.
  readonly basePath: string;
  readonly virtualBytes: number;
}

export interface DiskBackend {
  // Makes an empty layer; leaves nothing at `path` when it fails.
  create(disk: NewDisk): Promise<void>;
  // What the disk file says of itself. A VMM wrote to it, so nothing it names is opened.
  inspect(path: string): Promise<DiskFacts>;
  // Writes one layer that stands on the image alone and has the content of the chain.
  collapse(chain: LayerChain, path: string, signal: AbortSignal): Promise<void>;
  // Succeeds also when there is nothing.
  delete(path: string): Promise<void>;
}
