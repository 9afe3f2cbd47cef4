// The secrets of a sandbox. A traffic token lets one reach its ports; it fits into a DNS label beside port and id,
// where case says nothing. An access token makes one root in its guest.
import { randomBytes } from 'node:crypto';

import { type RandomBytes, base36 } from './ids.ts';

// By which a traffic token is shown, beside the host name.
export const trafficTokenHeader = 'X-Wrenn-Token';
export const trafficTokenQuery = 'wrenn_token';
export const trafficTokenCookie = 'wrenn-token';

const trafficTokenPattern = /^[0-9a-z]{25}$/;
const accessTokenPattern = /^[!-~]{32,128}$/;

export function newTrafficToken(random: RandomBytes = randomBytes): string {
  return base36(random);
}

export function isTrafficToken(text: string): boolean {
  return trafficTokenPattern.test(text);
}

export function newAccessToken(random: RandomBytes = randomBytes): string {
  return Buffer.from(random(32)).toString('hex');
}

export function isAccessToken(text: string): boolean {
  return accessTokenPattern.test(text);
}
