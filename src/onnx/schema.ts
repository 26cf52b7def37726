import protobuf from 'protobufjs/light.js';

/**
 * The part of the ONNX schema that models written here use. Field numbers are those of onnx.proto,
 * IR version 8; a reader skips what it does not know, so the rest can stay out.
 */
const descriptor: protobuf.INamespace = {
  nested: {
    StringStringEntryProto: {
      fields: { key: { type: 'string', id: 1 }, value: { type: 'string', id: 2 } },
    },
    OperatorSetIdProto: {
      fields: { domain: { type: 'string', id: 1 }, version: { type: 'int64', id: 2 } },
    },
    Dimension: {
      fields: { dimValue: { type: 'int64', id: 1 }, dimParam: { type: 'string', id: 2 } },
    },
    TensorShapeProto: {
      fields: { dim: { rule: 'repeated', type: 'Dimension', id: 1 } },
    },
    TensorTypeProto: {
      fields: { elemType: { type: 'int32', id: 1 }, shape: { type: 'TensorShapeProto', id: 2 } },
    },
    TypeProto: {
      fields: { tensorType: { type: 'TensorTypeProto', id: 1 } },
    },
    ValueInfoProto: {
      fields: { name: { type: 'string', id: 1 }, type: { type: 'TypeProto', id: 2 } },
    },
    TensorProto: {
      fields: {
        dims: { rule: 'repeated', type: 'int64', id: 1 },
        dataType: { type: 'int32', id: 2 },
        name: { type: 'string', id: 8 },
        rawData: { type: 'bytes', id: 9 },
      },
    },
    AttributeProto: {
      fields: {
        name: { type: 'string', id: 1 },
        f: { type: 'float', id: 2 },
        i: { type: 'int64', id: 3 },
        s: { type: 'bytes', id: 4 },
        g: { type: 'GraphProto', id: 6 },
        ints: { rule: 'repeated', type: 'int64', id: 8 },
        type: { type: 'int32', id: 20 },
      },
    },
    NodeProto: {
      fields: {
        input: { rule: 'repeated', type: 'string', id: 1 },
        output: { rule: 'repeated', type: 'string', id: 2 },
        name: { type: 'string', id: 3 },
        opType: { type: 'string', id: 4 },
        attribute: { rule: 'repeated', type: 'AttributeProto', id: 5 },
      },
    },
    GraphProto: {
      fields: {
        node: { rule: 'repeated', type: 'NodeProto', id: 1 },
        name: { type: 'string', id: 2 },
        initializer: { rule: 'repeated', type: 'TensorProto', id: 5 },
        input: { rule: 'repeated', type: 'ValueInfoProto', id: 11 },
        output: { rule: 'repeated', type: 'ValueInfoProto', id: 12 },
      },
    },
    ModelProto: {
      fields: {
        irVersion: { type: 'int64', id: 1 },
        producerName: { type: 'string', id: 2 },
        graph: { type: 'GraphProto', id: 7 },
        opsetImport: { rule: 'repeated', type: 'OperatorSetIdProto', id: 8 },
        metadataProps: { rule: 'repeated', type: 'StringStringEntryProto', id: 14 },
      },
    },
  },
};

const modelType = protobuf.Root.fromJSON(descriptor).lookupType('ModelProto');

/** Version of the file format that came with that operator set. */
export const irVersion = 8;
/** Every operator used here exists in this version of the standard operator set. */
export const opsetVersion = 17;

/** `AttributeProto.AttributeType`: which of its fields an attribute uses. */
export const attributeTypes = { float: 1, int: 2, string: 3, graph: 5, ints: 7 } as const;

/** `TensorProto.DataType` of the element types used here. */
export const elementTypes = { float32: 1, int64: 7, float64: 11 } as const;
export type ElementType = keyof typeof elementTypes;

export interface TensorMessage {
  name: string;
  dims: number[];
  dataType: number;
  rawData: Uint8Array;
}

export interface ValueMessage {
  name: string;
  type: { tensorType: { elemType: number; shape: { dim: ({ dimValue: number } | { dimParam: string })[] } } };
}

export interface AttributeMessage {
  name: string;
  type: number;
  f?: number;
  i?: number;
  s?: Uint8Array;
  g?: GraphMessage;
  ints?: number[];
}

export interface NodeMessage {
  input: string[];
  output: string[];
  name: string;
  opType: string;
  attribute: AttributeMessage[];
}

export interface GraphMessage {
  name: string;
  node: NodeMessage[];
  initializer: TensorMessage[];
  input: ValueMessage[];
  output: ValueMessage[];
}

export interface ModelMessage {
  irVersion: number;
  producerName: string;
  graph: GraphMessage;
  opsetImport: { domain: string; version: number }[];
  metadataProps: { key: string; value: string }[];
}

export const encodeModel = (model: ModelMessage): Uint8Array => {
  const problem = modelType.verify(model);
  if (problem) throw new TypeError(`not an ONNX model: ${problem}`);
  return modelType.encode(modelType.create(model)).finish();
};

/** Reads back what `encodeModel` wrote; numbers become plain numbers, absent lists empty ones. */
export const decodeModel = (bytes: Uint8Array): ModelMessage =>
  modelType.toObject(modelType.decode(bytes), { longs: Number, arrays: true, defaults: true }) as ModelMessage;
