// graphql-inspector: the documents of the examples are valid, and the contract breaks no client that is there already.
import assert from 'node:assert/strict';
import {execFileSync} from 'node:child_process';
import {readFile} from 'node:fs/promises';
import {CriticalityLevel, diff, validate} from '@graphql-inspector/core';
import {Source, buildSchema, parse, print, visit} from 'graphql';

const file = name => readFile(new URL(name, import.meta.url), 'utf8');
const contract = await file('../../../graph/contract.graphql');
const schema = buildSchema(contract);

const documents = Object.values(JSON.parse(await file('generated/client/persisted-documents.json'))).map(text => new Source(text));
assert(documents.length > 30, 'the documents were found');
const errors = document => validate(schema, [document]).flatMap(({errors}) => errors.map(({message}) => message)); // fragments come with each
assert.deepEqual(documents.flatMap(errors), []);
assert.equal(errors(new Source('{ customers(first: 1) { nothing } }')).length, 1, 'it finds what is not there');
console.log(documents.length, 'documents are valid');

// What breaks a client, as the lines of acknowledged.txt have it.
const breaks = async (before, after) => (await diff(before, after))
  .filter(({criticality}) => criticality.level === CriticalityLevel.Breaking)
  .map(({type, path, message}) => ({line: `${type} ${path}`, message}));

const base = process.env.LETHE_CONTRACT_BASE ?? 'HEAD';
const before = buildSchema(execFileSync('git', ['show', `${base}:./../../../graph/contract.graphql`],
  {cwd: new URL('.', import.meta.url), encoding: 'utf8', maxBuffer: 1 << 26}));
const acknowledged = (await file('acknowledged.txt')).split('\n').filter(line => line && !line.startsWith('#'));
const broken = await breaks(before, schema);
const surprising = broken.filter(({line}) => !acknowledged.includes(line));
for (const {line, message} of surprising) console.error(`breaking: ${message}\n  to be acknowledged as: ${line}`);
assert.deepEqual(surprising, []);

const without = print(visit(parse(contract), {FieldDefinition: node => (node.name.value === 'whyNot' ? null : undefined)}));
assert.deepEqual((await breaks(schema, buildSchema(without))).map(({line}) => line), ['FIELD_REMOVED Query.whyNot'], 'it finds what is gone');
console.log(`${broken.length} breaking changes since ${base}, all acknowledged`);
