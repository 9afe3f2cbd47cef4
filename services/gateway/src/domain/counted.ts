// Calls into a sandbox count as its use from beginning to end, a silent stream as well as a busy one.
// Looking at its console or its ports does not.
import type { DescMethod, Message } from '@bufbuild/protobuf';
import type { Activity } from '@wrenn/kit/activity-report';
import { isSandboxId } from '@wrenn/kit/ids';
import { FilesystemService } from '@wrenn/proto/wrenn/v1/filesystem';
import { ProcessService } from '@wrenn/proto/wrenn/v1/process';

// `request` names the sandbox; the rest is none of its business.
type Forward<Rest extends unknown[]> = (
  method: DescMethod,
  request: Message,
  ...rest: Rest
) => AsyncIterable<Uint8Array>;

const counting: ReadonlySet<string> = new Set([ProcessService.typeName, FilesystemService.typeName]);

export function counted<Rest extends unknown[]>(activity: Activity, forward: Forward<Rest>): Forward<Rest> {
  return async function* countedCall(method, request, ...rest) {
    const { sandboxId } = request as Message & { readonly sandboxId?: string };
    const counts = counting.has(method.parent.typeName) && sandboxId !== undefined && isSandboxId(sandboxId);
    using _use = counts ? activity.use(sandboxId) : undefined;
    yield* forward(method, request, ...rest);
  };
}
