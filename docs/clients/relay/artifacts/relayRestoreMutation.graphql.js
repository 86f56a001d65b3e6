/**
 * @generated SignedSource<<0761c94f6fc2f227bbee302f1c04a11a>>
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
    "name": "restoreRecords",
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
          },
          {
            "alias": null,
            "args": null,
            "kind": "ScalarField",
            "name": "status",
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
    "name": "relayRestoreMutation",
    "selections": (v1/*:: as any*/),
    "type": "Mutation",
    "abstractKey": null
  },
  "kind": "Request",
  "operation": {
    "argumentDefinitions": (v0/*:: as any*/),
    "kind": "Operation",
    "name": "relayRestoreMutation",
    "selections": (v1/*:: as any*/)
  },
  "params": {
    "cacheID": "78d5601ed39ec24fa514a8d8c80d9851",
    "id": null,
    "metadata": {},
    "name": "relayRestoreMutation",
    "operationKind": "mutation",
    "text": "mutation relayRestoreMutation(\n  $ids: [ID!]!\n) {\n  restoreRecords(input: {select: {ids: $ids}}) {\n    operation {\n      id\n      status\n    }\n  }\n}\n"
  }
};
})();

node.hash = "ad9d58a517f47b90ec77adfbb9011af4";

export default node;
