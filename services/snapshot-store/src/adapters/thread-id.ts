import koffi from 'koffi';

const gettid = koffi.load('libc.so.6').func('int gettid()') as () => number;

// Of the calling thread, as the kernel numbers it.
export function threadId(): number {
  return gettid();
}
