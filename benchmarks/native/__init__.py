"""``fbkit bench native``: the native runner beside Python."""
