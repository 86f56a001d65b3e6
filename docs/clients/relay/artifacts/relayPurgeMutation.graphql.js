/**
 * @generated SignedSource<<436198d8c75b3f74cf673d7917e21897>>
 * @lightSyntaxTransform
 */

/* eslint-disable */

'use strict';

var node = (function(){
var v0 = [
  {
    "defaultValue": null,
    "kind": "LocalArgument",
    "name": "ids"
  }
],
v1 = [
  {
    "alias": null,
    "args": [
      {
        "fields": [
          {
            "fields": [
              {
                "kind": "Variable",
                "name": "ids",
                "variableName": "ids"
              }
            ],
            "kind": "ObjectValue",
            "name": "select"
          }
        ],
        "kind": "ObjectValue",
        "name": "input"
      }
    ],
    "concreteType": "OperationPayload",
    "kind": "LinkedField",
    "name": "purgeRecords",
    "plural": false,
    "selections": [
      {
        "alias": null,
        "args": null,
        "concreteType": "Operation",
        "kind": "LinkedField",
        "name": "operation",
        "plural": false,
        "selections": [
          {
            "alias": null,
            "args": null,
            "kind": "ScalarField",
            "name": "id",
            "storageKey": null
          }
        ],
        "storageKey": null
      }
    ],
    "storageKey": null
  }
];
return {
  "fragment": {
    "argumentDefinitions": (v0/*:: as any*/),
    "kind": "Fragment",
    "metadata": null,
    "name": "relayPurgeMutation",
    "selections": (v1/*:: as any*/),
    "type": "Mutation",
    "abstractKey": null
  },
  "kind": "Request",
  "operation": {
    "argumentDefinitions": (v0/*:: as any*/),
    "kind": "Operation",
    "name": "relayPurgeMutation",
    "selections": (v1/*:: as any*/)
  },
  "params": {
    "cacheID": "1d35018272386a6eb17a4584cbfff00e",
    "id": null,
    "metadata": {},
    "name": "relayPurgeMutation",
    "operationKind": "mutation",
    "text": "mutation relayPurgeMutation(\n  $ids: [ID!]!\n) {\n  purgeRecords(input: {select: {ids: $ids}}) {\n    operation {\n      id\n    }\n  }\n}\n"
  }
};
})();

node.hash = "b04f7b18476b0acf646deb3470a94f89";

export default node;
