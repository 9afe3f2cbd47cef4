// The head that a connection begins with, and nothing of what follows it.
import type { Duplex } from 'node:stream';

import { BadMessage, findHeadEnd } from '../domain/fields.ts';

export function untilHead(socket: Duplex, maxBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let bytes = Buffer.alloc(0);
    const settle = (then: () => void) => {
      socket.pause();
      socket.off('data', take).off('end', end).off('error', fail).off('close', end);
      then();
    };
    const fail = (error: unknown) => settle(() => reject(error));
    const end = () => fail(new Error('it was closed'));
    const take = (more: Buffer) => {
      const { length } = bytes;
      bytes = Buffer.concat([bytes, more]);
      try {
        const headEnd = findHeadEnd(bytes.subarray(0, maxBytes), length);
        if (headEnd === undefined && bytes.length >= maxBytes) throw new BadMessage('the head is too long');
        if (headEnd === undefined) return;
        settle(() => {
          if (headEnd < bytes.length) socket.unshift(bytes.subarray(headEnd));
          resolve(bytes.subarray(0, headEnd));
        });
      } catch (error) {
        fail(error);
      }
    };
    socket.on('data', take).on('end', end).on('error', fail).on('close', end);
  });
}
