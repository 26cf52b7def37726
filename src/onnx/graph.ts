import {
  type AttributeMessage,
  attributeTypes,
  type ElementType,
  elementTypes,
  encodeModel,
  type GraphMessage,
  irVersion,
  type NodeMessage,
  opsetVersion,
  type TensorMessage,
  type ValueMessage,
} from './schema.js';

/** A dimension is a size, or a name for one that is known only at run time. */
export type Dimension = number | string;

/** A whole number becomes an INT attribute; a FLOAT is written as `{ float: 1 }` to tell them apart. */
export type Attribute = number | string | readonly number[] | Graph | { float: number };

/**
 * Builds one ONNX graph. Values are names; `node` returns the name of what it computes. A subgraph
 * (the body of a Scan) is another Graph and may read values of the graph around it by name, so names
 * are unique over all graphs of one model: give each graph its own prefix.
 */
export class Graph {
  readonly name: string;
  readonly element: 'float32' | 'float64';
  readonly #nodes: NodeMessage[] = [];
  readonly #initializers: TensorMessage[] = [];
  readonly #inputs: ValueMessage[] = [];
  readonly #outputs: ValueMessage[] = [];
  readonly #constants = new Map<string, string>();

  /** @param element type of every value that has no type of its own */
  constructor(name: string, element: 'float32' | 'float64') {
    this.name = name;
    this.element = element;
  }

  input(name: string, dims: readonly Dimension[], element: ElementType = this.element): string {
    this.#inputs.push(describe(name, element, dims));
    return name;
  }

  /** Declares a value that was computed under `name` as a result of the graph. */
  output(name: string, dims: readonly Dimension[]): string {
    this.#outputs.push(describe(name, this.element, dims));
    return name;
  }

  /** One operator with one result. */
  node(opType: string, inputs: readonly string[], attributes: Record<string, Attribute> = {}, result?: string): string {
    const name = result ?? `${this.name}_${this.#nodes.length}_${opType}`;
    this.nodes(opType, inputs, [name], attributes);
    return name;
  }

  /** One operator with several named results. */
  nodes(
    opType: string,
    inputs: readonly string[],
    results: readonly string[],
    attributes: Record<string, Attribute> = {},
  ): readonly string[] {
    this.#nodes.push({
      opType,
      name: `${this.name}/${this.#nodes.length}`,
      input: [...inputs],
      output: [...results],
      attribute: Object.entries(attributes).map(([name, value]) => attribute(name, value)),
    });
    return results;
  }

  /** A constant of the graph's element type; equal constants are stored once. No dims: a scalar. */
  constant(values: readonly number[] | number, dims: readonly number[] = []): string {
    return this.#initializer(this.element, Array.isArray(values) ? values : [values as number], dims);
  }

  /** A list of int64, for shapes, axes and split sizes. */
  integers(values: readonly number[]): string {
    return this.#initializer('int64', values, [values.length]);
  }

  message(): GraphMessage {
    return {
      name: this.name,
      node: this.#nodes,
      initializer: this.#initializers,
      input: this.#inputs,
      output: this.#outputs,
    };
  }

  /** The serialized model with this graph as its main graph. */
  toModel(metadata: Record<string, string> = {}): Uint8Array {
    return encodeModel({
      irVersion,
      producerName: 'foretoken',
      graph: this.message(),
      opsetImport: [{ domain: '', version: opsetVersion }],
      metadataProps: Object.entries(metadata).map(([key, value]) => ({ key, value })),
    });
  }

  #initializer(element: ElementType, values: readonly number[], dims: readonly number[]): string {
    const key = `${element} [${dims}] ${values}`;
    const known = this.#constants.get(key);
    if (known) return known;
    const name = `${this.name}_c${this.#constants.size}`;
    this.#constants.set(key, name);
    this.#initializers.push({ name, dims: [...dims], dataType: elementTypes[element], rawData: raw(element, values) });
    return name;
  }
}

const describe = (name: string, element: ElementType, dims: readonly Dimension[]): ValueMessage => ({
  name,
  type: {
    tensorType: {
      elemType: elementTypes[element],
      shape: { dim: dims.map((size) => (typeof size === 'number' ? { dimValue: size } : { dimParam: size })) },
    },
  },
});

function attribute(name: string, value: Attribute): AttributeMessage {
  if (typeof value === 'number') return { name, type: attributeTypes.int, i: value };
  if (typeof value === 'string') return { name, type: attributeTypes.string, s: new TextEncoder().encode(value) };
  if (value instanceof Graph) return { name, type: attributeTypes.graph, g: value.message() };
  if ('float' in value) return { name, type: attributeTypes.float, f: value.float };
  return { name, type: attributeTypes.ints, ints: [...value] };
}

/** Little-endian, as ONNX prescribes for raw data. */
function raw(element: ElementType, values: readonly number[]): Uint8Array {
  const width = element === 'float32' ? 4 : 8;
  const bytes = new DataView(new ArrayBuffer(values.length * width));
  values.forEach((value, index) => {
    if (element === 'float32') bytes.setFloat32(index * width, value, true);
    else if (element === 'float64') bytes.setFloat64(index * width, value, true);
    else bytes.setBigInt64(index * width, BigInt(value), true);
  });
  return new Uint8Array(bytes.buffer);
}
