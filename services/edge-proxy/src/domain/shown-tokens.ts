// A traffic token is for the edge alone: it is taken off a request, by whichever of four ways it came, before
// a program in the guest sees that.
import { trafficTokenCookie, trafficTokenHeader, trafficTokenQuery } from '@wrenn/kit/tokens';

import { type Field, trimmed } from './fields.ts';
import type { RequestHead } from './request-head.ts';
import type { GuestRoute } from './route.ts';

export interface ShownTokens {
  readonly header: readonly string[];
  readonly query: readonly string[];
  readonly cookie: readonly string[];
  readonly host: readonly string[];
}

export interface Unmarked {
  readonly request: RequestHead;
  readonly route: GuestRoute;
  readonly shown: ShownTokens;
}

const headerKey = trafficTokenHeader.toLowerCase();
const cookiePrefix = `${trafficTokenCookie}=`;
const parameterPrefix = `${trafficTokenQuery}=`;

export function takeTokens(request: RequestHead, route: GuestRoute): Unmarked {
  const header: string[] = [];
  const cookie: string[] = [];
  const fields: Field[] = [];
  for (const field of request.fields) {
    if (field.key === headerKey) header.push(field.value);
    else if (field.key === 'cookie' && field.value.includes(cookiePrefix)) {
      const value = withoutItems(field.value, ';', cookiePrefix, cookie);
      if (value !== '') fields.push({ ...field, value });
    } else fields.push(withoutHostToken(field, route.token));
  }
  const { target, query } = withoutParameter(route.target);
  const host = route.token === undefined ? request.host : request.host.replace(`-${route.token}`, '');
  return {
    request: { ...request, host, fields },
    route: { ...route, target },
    shown: { header, query, cookie, host: route.token === undefined ? [] : [route.token] },
  };
}

// Origin and Referer name the host that the page is at, and others may.
function withoutHostToken(field: Field, token: string | undefined): Field {
  if (token === undefined || !field.value.includes(token)) return field;
  return { ...field, value: field.value.replaceAll(`-${token}.`, '.') };
}

function withoutParameter(target: string): { target: string; query: string[] } {
  const queryStart = target.indexOf('?');
  const query: string[] = [];
  if (queryStart < 0 || !target.includes(parameterPrefix, queryStart)) return { target, query };
  const path = target.slice(0, queryStart);
  const rest = withoutItems(target.slice(queryStart + 1), '&', parameterPrefix, query);
  // Where none was taken every byte stays as it is.
  if (query.length === 0) return { target, query };
  return { target: rest === '' ? path : `${path}?${rest}`, query };
}

// The list without its items that begin like that; what they say is put into `taken`.
function withoutItems(list: string, separator: string, prefix: string, taken: string[]): string {
  const others = list.split(separator).filter((item) => {
    const text = trimmed(item);
    if (!text.startsWith(prefix)) return true;
    taken.push(text.slice(prefix.length));
    return false;
  });
  return trimmed(others.join(separator));
}
