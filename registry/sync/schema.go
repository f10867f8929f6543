package sync

import (
	"strings"

	"tidemark/registry"
	"tidemark/registry/web"
)

var (
	idSchema  = web.Schema{"type": "string", "pattern": "^[A-Za-z0-9._-]{1,60}$"}
	uidSchema = web.Schema{"type": "string", "pattern": "^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$"}
	count     = web.Schema{"type": "integer", "minimum": 0}
	text      = web.Schema{"type": "string"}
)

// object is the schema of an object that has these members and no others; optional ones end with ?.
func object(members web.Schema) web.Schema {
	properties, required := web.Schema{}, []string{}
	for name, schema := range members {
		plain, optional := strings.CutSuffix(name, "?")
		properties[plain] = schema
		if !optional {
			required = append(required, plain)
		}
	}
	return web.Schema{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
}

func array(items web.Schema) web.Schema { return web.Schema{"type": "array", "items": items} }

func batchSchema() web.Schema {
	whole := web.Schema{"type": "integer", "minimum": 0, "maximum": 1<<31 - 1}
	changes := array(object(web.Schema{
		"op_id":         web.Schema{"type": "string", "pattern": idSchema["pattern"], "description": "unique on the device for ever: a UUID, say"},
		"entity":        web.Schema{"enum": entities()},
		"client_uuid":   uidSchema,
		"op":            web.Schema{"enum": []registry.Op{registry.Create, registry.Update, registry.Delete}},
		"base_version?": web.Schema{"type": "integer", "minimum": 0, "maximum": 1<<31 - 1, "description": "the version that was edited; 1 for a record whose creation has not been answered yet; not for create"},
		"fields?":       web.Schema{"type": []string{"object", "null"}, "description": "of the entity, null to empty one; not for delete. A fault in them rejects this change alone"},
		"client_time":   web.Schema{"type": "string", "format": "date-time"},
	}))
	changes["maxItems"] = maxChanges
	return object(web.Schema{
		"protocol": whole, "schema_version": whole, "device_id": idSchema, "batch_id": idSchema, "changes": changes,
		"cursor?": web.Schema{"type": []string{"string", "null"}, "description": "the last next_cursor; left out the first time"},
	})
}

func answerSchema(pushed bool) web.Schema {
	var records []web.Schema
	for _, name := range entities() {
		records = append(records, web.Ref(strings.ToUpper(name[:1])+name[1:]))
	}
	a := web.Schema{
		"protocol": count, "changes": array(web.Schema{"anyOf": records}), "tombstones": array(object(web.Schema{"entity": web.Schema{"enum": entities()}, "uid": uidSchema})),
		"next_cursor": text, "has_more": web.Schema{"type": "boolean"},
	}
	if pushed {
		a["batch_id"] = idSchema
		a["results"] = array(object(web.Schema{
			"op_id": idSchema, "entity": web.Schema{"enum": entities()}, "uid": uidSchema,
			"outcome":  web.Schema{"enum": []registry.Outcome{registry.Created, registry.Updated, registry.Merged, registry.Duplicate, registry.Conflict, registry.Rejected, registry.Retry}},
			"version?": count, "conflict?": array(text), "of?": uidSchema, "replayed?": web.Schema{"const": true}, "review_id?": count,
			"faults?": array(object(web.Schema{"field?": text, "detail": text})),
		}))
	}
	return object(a)
}
