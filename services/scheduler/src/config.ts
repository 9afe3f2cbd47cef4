import { absolutePath, commonShape, readConfig, rpcAddress } from '@wrenn/kit/config';
import { failpointShape } from '@wrenn/kit/failpoint';

const shape = {
  ...commonShape,
  ...failpointShape,
  listen: rpcAddress().default('127.0.0.1:9471'),
  // A file, because the URL holds a password.
  databaseUrlFile: absolutePath(),
};

export function readSchedulerConfig(env: NodeJS.ProcessEnv) {
  return readConfig(shape, env);
}
