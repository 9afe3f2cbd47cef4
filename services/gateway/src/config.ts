import { commonShape, rpcAddress } from '@wrenn/kit/config';

export const gatewayShape = {
  ...commonShape,
  listen: rpcAddress().default('127.0.0.1:9470'),
  scheduler: rpcAddress().default('127.0.0.1:9471'),
};
