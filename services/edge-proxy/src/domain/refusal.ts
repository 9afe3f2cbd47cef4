// What the edge answers by itself, instead of a guest.
export interface RefusalKind {
  readonly status: number;
  readonly phrase: string;
  readonly retryAfterS?: number;
}

export const refusals = {
  TOKEN_TAKEN: { status: 302, phrase: 'Found' },
  BAD_REQUEST: { status: 400, phrase: 'Bad Request' },
  HTTP2_REFUSED: { status: 400, phrase: 'Bad Request' },
  URL_EXPIRED: { status: 401, phrase: 'Unauthorized' },
  ROUTE_NOT_FOUND: { status: 404, phrase: 'Not Found' },
  NOT_FOUND: { status: 404, phrase: 'Not Found' },
  METHOD_NOT_ALLOWED: { status: 405, phrase: 'Method Not Allowed' },
  HEAD_TIMEOUT: { status: 408, phrase: 'Request Timeout' },
  EXPECTATION_FAILED: { status: 417, phrase: 'Expectation Failed' },
  HEAD_TOO_LARGE: { status: 431, phrase: 'Request Header Fields Too Large' },
  INTERNAL: { status: 500, phrase: 'Internal Server Error' },
  NOTHING_LISTENS: { status: 502, phrase: 'Bad Gateway' },
  GUEST_CLOSED: { status: 502, phrase: 'Bad Gateway' },
  GUEST_MISBEHAVED: { status: 502, phrase: 'Bad Gateway' },
  EDGE_BUSY: { status: 503, phrase: 'Service Unavailable', retryAfterS: 1 },
  SANDBOX_BUSY: { status: 503, phrase: 'Service Unavailable', retryAfterS: 1 },
  SANDBOX_PAUSED: { status: 503, phrase: 'Service Unavailable', retryAfterS: 10 },
  SANDBOX_NOT_RUNNING: { status: 503, phrase: 'Service Unavailable', retryAfterS: 1 },
  SANDBOX_NOT_RESUMED: { status: 503, phrase: 'Service Unavailable', retryAfterS: 5 },
  SERVICE_UNAVAILABLE: { status: 503, phrase: 'Service Unavailable', retryAfterS: 1 },
  GUEST_TIMEOUT: { status: 504, phrase: 'Gateway Timeout' },
  VERSION_NOT_SUPPORTED: { status: 505, phrase: 'HTTP Version Not Supported' },
} as const satisfies Record<string, RefusalKind>;

export type RefusalCode = keyof typeof refusals;

export interface RefusalOptions {
  readonly cause?: unknown;
  readonly fields?: readonly string[]; // Of the answer, beside those that all have.
}

export class Refusal extends Error {
  override readonly name = 'Refusal';
  readonly code: RefusalCode;
  // May hold a secret, which no log writes out.
  readonly #fields: readonly string[];

  constructor(code: RefusalCode, message: string, options: RefusalOptions = {}) {
    super(message, { cause: options.cause });
    this.code = code;
    this.#fields = options.fields ?? [];
  }

  get fields(): readonly string[] {
    return this.#fields;
  }
}

// What is not there, and what is not for the one who asks, are not to be told apart.
export function notFound(cause?: unknown): Refusal {
  return new Refusal('NOT_FOUND', 'there is no such sandbox or port, or it takes a token', { cause });
}

export interface AnswerOptions {
  readonly isHead?: boolean;
  readonly keepsAlive?: boolean; // Another request may follow on the connection.
  readonly fields?: readonly string[];
}

export function refusalBytes({ code, message, fields }: Refusal, options: AnswerOptions = {}): Buffer {
  return answerBytes(refusals[code], JSON.stringify({ error: { code, message } }), { ...options, fields });
}

// The bytes of a complete answer.
export function answerBytes(kind: RefusalKind, json: string, { isHead, keepsAlive, fields }: AnswerOptions): Buffer {
  const body = `${json}\n`;
  const head = [
    `HTTP/1.1 ${kind.status} ${kind.phrase}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Cache-Control: no-store',
    ...(kind.retryAfterS === undefined ? [] : [`Retry-After: ${kind.retryAfterS}`]),
    ...(fields ?? []),
    ...(keepsAlive ? [] : ['Connection: close']),
  ];
  return Buffer.from(`${head.join('\r\n')}\r\n\r\n${isHead ? '' : body}`);
}
