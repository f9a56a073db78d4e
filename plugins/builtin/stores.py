"""Plugin: the actions `db.*`: the session's own key-value store, or, with `context:true`, its context's."""

from typing import Any

from plugins.hooks import Play, plays


@plays("db.get,db.set,db.delete,db.exists,db.keys,db.destroy", is_calling=True)
async def play_db(play: Play) -> Any:
    """`!!db.set key:... value:...`, `!!db.get key:... as:NAME`, and delete, exists, keys (prefix), destroy."""
    for action in play.find():
        params = action.params
        is_context = params.get_default_false("context")
        about: dict[str, Any] = {"session_id": play.session.id}
        if is_context:
            about = {"context_name": play.session.context_name}
        given = {key: params.get(key) for key in ("key", "value", "prefix") if params.exists(key)}
        method = f"{'context' if is_context else 'session'}.db.{action.name}"
        if action.name != "keys":
            return await play.call(method, **about, **given)
        page = await play.call(method, **about, **given, limit=200)
        return page["items"]
    return None
