// Whether each known field of a message came in the encoding of its type. protobuf-es reads a field as its own
// type whatever the tag says, so that a string sent as a number would pass for another message.
import type { DescField, DescMessage } from '@bufbuild/protobuf';
import { ScalarType } from '@bufbuild/protobuf';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';

const deepest = 100; // As deep as protobuf-es reads.

// Throws for bytes that are no message at all.
export function hasOwnWireTypes(schema: DescMessage, bytes: Uint8Array, depth = 0): boolean {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    const field = schema.fields.find((one) => one.number === number);
    if (!field) {
      reader.skip(wireType, number);
      continue;
    }
    if (!wireTypesOf(field).includes(wireType)) return false;
    const inner = field.message;
    if (inner && wireType === WireType.LengthDelimited && depth < deepest) {
      if (!hasOwnWireTypes(inner, reader.bytes(), depth + 1)) return false;
    } else reader.skip(wireType, number);
  }
  return true;
}

function wireTypesOf(field: DescField): readonly WireType[] {
  switch (field.fieldKind) {
    case 'scalar':
      return [wireTypeOf(field.scalar)];
    case 'enum':
      return [WireType.Varint];
    case 'message':
      return [field.delimitedEncoding ? WireType.StartGroup : WireType.LengthDelimited];
    case 'map':
      return [WireType.LengthDelimited];
    case 'list': {
      if (field.listKind === 'message')
        return [field.delimitedEncoding ? WireType.StartGroup : WireType.LengthDelimited];
      // Numbers may come one by one or all in one.
      const one = field.listKind === 'enum' ? WireType.Varint : wireTypeOf(field.scalar);
      return [one, WireType.LengthDelimited];
    }
  }
}

function wireTypeOf(scalar: ScalarType): WireType {
  switch (scalar) {
    case ScalarType.STRING:
    case ScalarType.BYTES:
      return WireType.LengthDelimited;
    case ScalarType.DOUBLE:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return WireType.Bit64;
    case ScalarType.FLOAT:
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
      return WireType.Bit32;
    default:
      return WireType.Varint;
  }
}
