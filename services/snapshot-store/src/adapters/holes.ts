// Where a sparse file holds data. Node has no lseek, so libc's is called.
import koffi from 'koffi';

const seekData = 3;
const seekHole = 4;

const libc = koffi.load('libc.so.6');
const lseek = libc.func('int64_t lseek(int fd, int64_t offset, int whence)') as (
  fd: number,
  offset: number,
  whence: number,
) => number | bigint;

export interface Extent {
  readonly at: number;
  readonly end: number;
}

// The file's data from its start to its end, whole pages as the kernel keeps them.
export function* dataExtents(fd: number): Generator<Extent> {
  let at = 0;
  for (;;) {
    const start = Number(lseek(fd, at, seekData));
    if (start < 0) {
      if (koffi.errno() === koffi.os.errno['ENXIO']) return;
      throw seekFailed();
    }
    at = Number(lseek(fd, start, seekHole));
    if (at < 0) throw seekFailed();
    yield { at: start, end: at };
  }
}

function seekFailed(): Error {
  return new Error(`lseek failed with errno ${koffi.errno()}`);
}
