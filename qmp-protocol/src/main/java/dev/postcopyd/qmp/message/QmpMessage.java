package dev.postcopyd.qmp.message;

/**
 * One complete message on a QMP connection, in either direction.
 *
 * <p>All messages are immutable as far as their JSON trees are left alone: a tree inside a message
 * belongs to the message and is never written to again.
 */
public sealed interface QmpMessage permits Greeting, Command, Success, Failure, Event {}
